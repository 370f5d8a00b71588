import json
import re
from functools import partial
from pathlib import Path
from typing import Any

import commands
import pytest
import yaml

import vg_engine
from vg_engine.core.heads import parse_heads
from vg_engine.registry import catalog

SHAPE = {"layers": 4, "heads_per_layer": 2}


call, refused = partial(commands.call, "heads"), partial(commands.refused, "heads")


def records(*arguments: str | Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in call(*arguments, "--json").stdout.splitlines()]


def defaults_of() -> dict[str, list[str]]:
    """The models that each listed set is the default of."""
    return {row["name"]: row["default_of"] for row in records("list")}


def write(folder: Path, name: str, heads: Any = "L2H1", suffix: str = "yaml", **more: Any) -> Path:
    """A head-set file."""
    folder.mkdir(parents=True, exist_ok=True)
    listed = [{"head": h} for h in heads.split(",")] if isinstance(heads, str) else heads
    data = {"name": name, "models": ["cells"], "rule": "paper", "heads": listed} | more
    path = folder / f"{name}.{suffix}"
    path.write_text(yaml.safe_dump(data, sort_keys=False))
    return path


def model(folder: Path, layers: int | None = 4, heads: int = 2) -> Path:
    """A model's folder, as far as its config goes."""
    folder.mkdir(parents=True, exist_ok=True)
    text = {} if layers is None else {"num_hidden_layers": layers, "num_attention_heads": heads}
    (folder / "config.json").write_text(json.dumps({"model_type": "cells", "text_config": text}))
    return folder


def cells(source: str | Path, **choices: Any) -> Any:
    return vg_engine.load(source, adapter="cell", **choices).head_set


def test_head_sets_are_listed(home: Path) -> None:
    for words in ((), ("list",)):
        rows = {row["name"]: row for row in records(*words)}
        assert rows["llava-1.5-13b"]["heads"] == ["L15H39", "L16H30", "L7H2"]
        assert rows["llava-1.5-13b"]["default_of"] == ["llava-1.5-13b"]
        assert rows["embedded-paper"]["default_of"] == []
        assert "L14H24, L14H13, L14H26" in call(*words).stdout
    write(home / "heads", "mine", models=["org/unknown", "llava-hf/llava-1.5-7b-hf"])
    assert defaults_of()["mine"] == ["llava-1.5-7b", "org/unknown"]
    assert defaults_of()["llava-1.5-7b"] == []


def test_one_is_shown_with_all_that_it_states(home: Path) -> None:
    (shown,) = records("show", "llava-1.5-7b")
    assert shown["source"].startswith("arXiv 2503.06287")
    assert shown["file"].endswith("llava-1.5-7b.yaml")
    assert "not re-measured" in call("show", "llava-1.5-7b").stdout
    path = write(
        home, "mine", notes=["one", "two"], seed=0, **SHAPE,
        prompt={"form": "chat", "template": "find {expression}"}, faults=3,
        controls={"exam": "600", "ours": {"iou": 0.5, "hit": 0.25}, "random": {"iou": 0.125}},
    )  # fmt: skip
    assert call("show", path).stdout.splitlines() == [
        "name:              mine",
        f"file:              {path}",
        "models:            cells",
        "shape:             4 layers x 2 heads",
        "rule:              paper",
        "heads:             L2H1",
        "seed:              0",
        "faults:            3",
        "prompt:            form      chat",
        "                   template  find {expression}",
        "controls:          exam    600",
        "                             iou   hit",
        "                   ours    0.500  0.25",
        "                   random  0.125",
        "notes:             one",
        "                   two",
    ]


def test_what_is_known_of_each_head_is_shown_in_columns(home: Path) -> None:
    first = {"head": "L3H1", "frequency": 0.9, "spread": 0.0125, "score": -3}
    second = {"head": "L2H0", "frequency": 1, "spread": 0, "score": 12.5}
    path = write(home, "mine", [first, second])
    text = call("show", path).stdout
    assert "heads:                   frequency  spread  score\n" in text
    assert "                   L3H1        0.9  0.0125   -3.0\n" in text
    assert "                   L2H0        1.0  0.0000   12.5\n" in text
    (shown,) = records("show", path)
    assert (shown["spread"], shown["score"]) == ([0.0125, 0.0], [-3.0, 12.5])
    path = write(home, "mine", "L3H2", index_base=1)
    (shown,) = records("show", path)
    assert (shown["heads"], shown["index_base"]) == (["L2H1"], 0)
    assert "counted from 1 in its file" in call("show", path).stdout


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["show"], "which head set?"),
        (["show", "llava-15-7b"], "did you mean llava-1.5-7b"),
        (["show", "llava-hf/llava-1.5-7b-hf"], "did you mean llava-1.5-7b"),
        (["show", "none.yaml"], "no file none.yaml; check the path"),
        (["show", "one", "two"], "two"),
        (["list", "x"], "try: vg-engine heads show x"),
        (["drop"], "drop"),
        (["--json", "show", "embedded"], "say --json last: vg-engine heads show"),
        (["use"], "which head set? vg-engine heads use NAME --model MODEL"),
        (["use", "embeded"], "no head set 'embeded'"),
        (["use", "L1H1,L2H2"], "is a list, which no name keeps"),
        (["use", "L1H1,X"], "no head set 'L1H1,X'"),
        (["use", "none.yaml"], "no file none.yaml"),
        (["use", "embedded", "--model", "embeded"], "did you mean embedded"),
        (["use", "embedded", "--model", "./none"], "no folder ./none"),
        (["use", "embedded", "--model", ""], "the model's name is empty"),
        (["use", "embedded", "--model", "llava-1.5-7b"], "6 layers x 8 heads, llava-1.5-7b has 32"),
        (["use", "llava-1.5-7b", "--model", "embedded"], "embedded has 6 x 8; use a set made for"),
        (["use", "embedded", "--reset", "embedded"], "--reset stands alone"),
        (
            ["use", "--reset", "embedded"],
            "'embedded' has no head set of its own choice; no model was",
        ),
        (["compare"], "name two or more"),
        (["compare", "embedded"], "name two or more"),
        (["compare", "embedded", "embedded-papr"], "did you mean embedded-paper"),
        (["compare", "embedded", "L1H1,X"], "'X' names no head"),
        (["compare", "embedded", "L1H1,L1H1"], "a head is named twice"),
        (["compare", "embedded", " "], "no head is named"),
        (["compare", "embedded", "none.yaml"], "no file none.yaml"),
    ],
)
def test_mistakes_are_one_line(arguments: list[str], words: str) -> None:
    assert words in refused(*arguments)


@pytest.mark.parametrize("text", ["a: [", "name: mine", "- 1", "name: mine\nname: x", "a: &b 1"])
@pytest.mark.parametrize("command", ["show", "use"])
def test_a_broken_file_is_named(tmp_path: Path, text: str, command: str) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(text)
    assert "mine.yaml" in refused(command, path)


def test_a_set_becomes_the_default_of_a_model_until_it_is_reset(home: Path) -> None:
    write(home / "heads", "other", "L3H0")
    write(home / "heads", "mine", "L2H1")
    assert cells("cells").name == "mine"  # the first that lists the model
    file = str(home / "defaults.yaml")
    told = {"model": "org/cells", "head_set": "other", "file": file}
    assert records("use", "other", "--model", "org/cells") == [told]
    assert cells("org/cells").name == "other"
    assert cells("ORG/Cells").name == "other"
    assert cells("org/cells", heads="mine").name == "mine"
    assert cells("org/cells", heads="auto") is None
    assert "org/cells" in defaults_of()["other"]
    (done,) = records("use", "--reset", "Org/Cells")
    assert done["head_set"] is None
    assert cells("org/cells").name == "mine"
    assert not (home / "defaults.yaml").exists()
    assert "no model was" in refused("use", "--reset", "org/cells")


def test_a_default_of_one_of_our_models(home: Path) -> None:
    done = call("use", "embedded-paper")
    assert done.stdout == f"embedded: embedded-paper  ({home / 'defaults.yaml'})\n"
    with vg_engine.load() as engine:
        assert getattr(engine.head_set, "name", None) == "embedded-paper"
    found = defaults_of()
    assert (found["embedded-paper"], found["embedded"]) == (["embedded"], [])
    # The folder of a known model is that model.
    (told,) = records("use", "embedded", "--model", catalog.OURS / "embedded")
    assert told["model"] == "embedded"
    (told,) = records("use", "--reset", "embedded")
    assert told["head_set"] == "embedded"


def test_the_ids_of_a_known_model_are_one_model(home: Path) -> None:
    write(home / "heads", "mine", "L14H1", layers=32, heads_per_layer=32)
    ids = ("-m", "liuhaotian/llava-v1.5-7b", "-m", "llava-hf/llava-1.5-7b-hf")
    assert [record["model"] for record in records("use", "mine", *ids)] == ["llava-1.5-7b"]
    entry = catalog.model_entry("llava-1.5-7b")
    assert getattr(catalog.for_entry(entry), "name", None) == "mine"


def test_without_a_model_those_that_the_set_lists_are_meant(home: Path, tmp_path: Path) -> None:
    gone = str(tmp_path / "gone")
    path = write(tmp_path, "mine", models=[gone, "org/a", "org/b", "nobody"])
    done = call("use", path, "--json")
    assert [json.loads(line)["model"] for line in done.stdout.splitlines()] == ["org/a", "org/b"]
    assert f"passed over: no folder {gone}" in done.stderr
    assert "passed over: no model 'nobody'" in done.stderr
    nameless = write(tmp_path, "other", models=[])
    assert "say for which: vg-engine heads use ... --model MODEL" in refused("use", nameless)
    assert not (home / "heads" / "other.yaml").exists()


def test_a_file_is_kept_and_used(home: Path, tmp_path: Path) -> None:
    folder = model(tmp_path / "checkpoint")
    path = write(tmp_path, "mine", "L3H2", suffix="yml", index_base=1, **SHAPE)
    done = call("use", path, "--model", folder)
    kept = home / "heads" / "mine.yaml"
    assert f"kept as {kept}" in done.stderr
    assert "mine was made for cells, not for" in done.stderr
    assert kept.read_bytes() == path.read_bytes()
    assert list(kept.parent.iterdir()) == [kept]
    assert cells(folder).heads == parse_heads("L2H1")
    assert vg_engine.load(folder).head_set.name == "mine"
    # The same again changes nothing; as does the kept file itself.
    for again in (path, kept, "mine"):
        call("use", again, "--model", folder)
    path.unlink()
    assert vg_engine.load(folder).head_set.name == "mine"


@pytest.mark.parametrize("name", ["mine", "embedded"])
def test_a_set_is_replaced_only_by_force(home: Path, tmp_path: Path, name: str) -> None:
    write(home / "heads", "mine", "L2H1")
    path = write(tmp_path, name, "L3H0")
    assert f"another head set '{name}'" in refused("use", path, "--model", "org/cells")
    assert not catalog.defaults()
    call("use", path, "--model", "org/cells", "--force")
    assert cells("org/cells").heads == parse_heads("L3H0")


def test_a_folder_by_any_path_is_one_model(home: Path, tmp_path: Path, monkeypatch: Any) -> None:
    write(home / "heads", "mine", models=["x/y"])
    folder = model(tmp_path / "checkpoint")
    monkeypatch.chdir(tmp_path)
    (done,) = records("use", "mine", "--model", "./checkpoint")
    assert done["model"] == str(folder.resolve())
    for source in (folder, "./checkpoint", "checkpoint/../checkpoint"):
        assert cells(source).name == "mine"
    assert cells(model(tmp_path / "elsewhere" / "checkpoint")) is None


@pytest.mark.parametrize(
    ("heads", "stated", "words"),
    [
        ("L2H1", {"layers": 6, "heads_per_layer": 8}, "6 layers x 8 heads, .* has 4 x 2"),
        ("L4H1", {}, "does not fit .*L4H1 is out of range.*index_base: 1"),
        ("L0H7", {}, "does not fit .*L0H7 is out of range"),
    ],
)
def test_a_set_for_another_shape_is_refused(
    home: Path, tmp_path: Path, heads: str, stated: Any, words: str
) -> None:
    path = write(tmp_path, "mine", heads, **stated)
    assert re.search(words, refused("use", path, "--model", model(tmp_path / "m")))
    assert not home.exists()
    # What cannot be read from the config is seen when the model is loaded.
    unknown = model(tmp_path / "u", layers=None)
    assert "is seen when the model is loaded" in call("use", path, "--model", unknown).stderr
    with pytest.raises(vg_engine.HeadsError, match=r"made for 6 layers|out of range"):
        cells(unknown)


def test_a_default_that_is_gone_is_told_and_can_be_reset(home: Path) -> None:
    write(home / "heads", "mine")
    call("use", "mine", "--model", "org/cells")
    call("use", "mine", "--model", "embedded")
    (home / "heads" / "mine.yaml").unlink()
    for load in (lambda: cells("org/cells"), vg_engine.load):
        with pytest.raises(vg_engine.HeadSetNotFoundError, match=r"'mine', is gone .*--reset"):
            load()
    call("list")
    for name in ("org/cells", "embedded"):
        call("use", "--reset", name)
    assert cells("org/cells") is None


@pytest.mark.parametrize("text", ["- a", "a: [b]", "a: 1", "a: [", "a: ''", "a: b\na: c"])
def test_broken_defaults_are_named(home: Path, text: str) -> None:
    home.mkdir()
    (home / "defaults.yaml").write_text(text)
    for arguments in (["list"], ["use", "embedded"], ["use", "--reset", "a"]):
        assert "defaults.yaml" in refused(*arguments)
    (home / "defaults.yaml").write_text("# nothing yet\n")
    call("use", "embedded")


def test_a_folder_that_cannot_be_written_is_one_line(home: Path, tmp_path: Path) -> None:
    home.write_text("a file where a folder belongs")
    assert "cannot be written" in refused("use", "embedded")
    assert "VG_ENGINE_HOME" in refused("use", write(tmp_path, "mine"), "--model", "org/x")


def test_two_sets_are_compared(home: Path, tmp_path: Path) -> None:
    write(home / "heads", "a", "L1H1,L2H1,L3H1,L3H0", n=5, prompt={"form": "chat"}, data="x")
    b = write(tmp_path, "b", "L3H1,L1H1,L0H0", n=7, prompt={"form": "bare"}, data="x")
    (found,) = records("compare", "a", b)
    assert [entry["name"] for entry in found["sets"]] == ["a", "b"]
    assert found["pairs"] == [
        {"first": "a", "second": "b", "shared": ["L1H1", "L3H1"], "jaccard": 0.4, "kendall": -1.0}
    ]
    ranks = {entry["head"]: entry["ranks"] for entry in found["heads"]}
    assert list(ranks.items())[:2] == [("L1H1", [1, 2]), ("L3H1", [3, 1])]
    assert ranks["L0H0"] == [None, 3]
    assert found["same"] == {"model": True, "prompt": False, "data": True}
    assert found["differences"] == {"n": [5, 7], "prompt form": ["chat", "bare"]}
    text = call("compare", "a", b).stdout
    assert "2 of 4 and 3" in text
    assert "model: the same  prompt: different  data: the same" in text


def test_several_sets_and_lists_are_compared_in_pairs() -> None:
    asked = ("compare", "embedded", "embedded-paper", "L3H1,L4H4", "llava-1.5-7b")
    description = "note: the sets are for models of different shapes (embedded 6 x 8"
    assert description in call(*asked).stderr
    (found,) = records(*asked)
    pairs = {(pair["first"], pair["second"]): pair["shared"] for pair in found["pairs"]}
    assert len(pairs) == 6
    assert pairs["embedded-paper", "L3H1,L4H4"] == ["L4H4", "L3H1"]
    assert pairs["embedded", "llava-1.5-7b"] == []
    assert found["same"] == {"model": None, "prompt": None, "data": None}
    assert len(found["notes"]) == 1
    done = call("compare", "L1H1", "L2H2")
    assert ("no head is shared" in done.stdout, done.stderr) == (True, "")


def test_the_same_name_twice_is_told_apart(home: Path, tmp_path: Path) -> None:
    write(home / "heads", "a", "L1H1")
    path = write(tmp_path, "a", "L2H1")
    (found,) = records("compare", "a", path, "a")
    assert [entry["name"] for entry in found["sets"]] == ["a", str(path), "a'"]
    assert [len(pair["shared"]) for pair in found["pairs"]] == [0, 1, 0]


def test_long_comparisons_are_cut_for_people_only(tmp_path: Path) -> None:
    many = ",".join(f"L{layer}H{head}" for layer in range(8) for head in range(8))
    done = call("compare", write(tmp_path, "a", many), write(tmp_path, "b", many))
    assert "and 24 more (--json has them all)" in done.stdout
    (found,) = records("compare", tmp_path / "a.yaml", tmp_path / "b.yaml")
    assert len(found["heads"]) == 64


def test_a_set_is_found_by_the_name_in_its_file(home: Path, tmp_path: Path) -> None:
    renamed = write(tmp_path, "mine").rename(tmp_path / "of last week.yml")
    assert "name:              mine" in call("show", renamed).stdout
    assert "kept as" in call("use", renamed, "--model", "org/cells").stderr
    kept = (home / "heads" / "mine.yaml").rename(home / "heads" / "kept.yml")
    assert defaults_of()["mine"] == ["org/cells", "cells"]
    assert str(kept) in call("show", "mine").stdout
    call("use", write(tmp_path, "mine", "L1H1"), "--model", "org/cells", "--force")
    assert list(kept.parent.iterdir()) == [kept], "replaced, not doubled"
    write(home / "heads", "mine")
    assert "have the same name 'mine'; change it in one of them" in refused("list")
