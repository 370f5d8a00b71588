import subprocess
import sys
from pathlib import Path

import pytest

from vg_engine.core.contract.prompt import Prompt
from vg_engine.core.errors import HeadSetNotFoundError, InputError, ModelNotFoundError
from vg_engine.core.heads import HeadSet, parse_heads
from vg_engine.plugins.entrypoints import ADAPTERS, REGIONS, installed
from vg_engine.registry import catalog

SHAPE = {"layers": 32, "heads_per_layer": 32}


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv(catalog.HOME, str(tmp_path))
    for folder in ("heads", "models"):
        (tmp_path / folder).mkdir()
    return tmp_path


def add_heads(home: Path, name: str, **changes: object) -> None:
    lines = {"name": name, "models": "[org/m]", "mode": "given", "heads": "[{head: L1H1}]"}
    lines |= {key: str(value) for key, value in changes.items()}
    text = "".join(f"{key}: {value}\n" for key, value in lines.items())
    (home / "heads" / f"{name}.yaml").write_text(text)


@pytest.mark.parametrize(
    ("size", "heads", "layers"),
    [("7b", "L14H24,L14H13,L14H26", 32), ("13b", "L15H39,L16H30,L7H2", 40)],
)
def test_the_published_heads(size: str, heads: str, layers: int) -> None:
    found = catalog.head_set(f"llava-1.5-{size}")
    assert found.heads == parse_heads(heads)
    assert (found.layers, found.heads_per_layer) == (layers, layers)
    assert found.mode == "published"
    assert "not re-measured by this project" in str(found.provenance["notes"])
    assert "2503.06287" in str(found.provenance["source"])
    assert found.provenance["prompt"] == {"form": "bare", "query_row": "expression_last"}


def test_every_entry_names_what_exists() -> None:
    adapters = {entry.name for entry in installed(ADAPTERS)}
    regions = {entry.name for entry in installed(REGIONS)}
    sets = {heads.name for heads in catalog.head_sets()}
    for entry in catalog.models():
        assert entry.adapter is None or entry.adapter in adapters, entry.name
        assert entry.region is None or entry.region in regions, entry.name
        assert entry.heads is None or entry.heads in sets, entry.name
        assert entry.folder is None or (entry.folder / "config.json").is_file(), entry.name
        Prompt(**entry.prompt)
    for heads in catalog.head_sets():
        Prompt(**heads.provenance.get("prompt", {}))


def test_the_embedded_model_says_what_it_knows() -> None:
    entry = catalog.model_entry(catalog.EMBEDDED)
    assert "only knows its shapes" in str(entry.notes)
    assert entry.folder == catalog.OURS.absolute() / "embedded"


def test_models_answer_to_their_names() -> None:
    entry = catalog.model_entry("liuhaotian/llava-v1.5-7b")
    assert entry == catalog.model_entry("llava-hf/llava-1.5-7b-hf")
    assert entry == catalog.find_model("LLaVA-1.5-7B")
    assert catalog.find_model("nobody/knows") is None
    assert catalog.find_model(str(catalog.OURS / "embedded")) == catalog.model_entry("embedded")
    with pytest.raises(ModelNotFoundError, match=r"did you mean llava-1\.5-7b"):
        catalog.model_entry("lava-1.5-7b")


def test_an_unknown_head_set_is_answered_with_the_nearest() -> None:
    with pytest.raises(HeadSetNotFoundError, match=r"L14H24.*did you mean llava-1\.5-7b"):
        catalog.head_set("llava-15-7b")


def test_a_model_finds_its_heads_by_id_folder_or_origin() -> None:
    for source, names in [
        ("llava-hf/llava-1.5-7b-hf", ()),
        ("/somewhere/llava-1.5-7b-hf", ()),
        ("/somewhere/LLaVA-v1.5-7B", ()),
        ("/somewhere/mine", ("llava-hf/llava-1.5-7b-hf",)),
        ("llava-1.5-7b", ()),
    ]:
        found = catalog.for_model(source, names=names, **SHAPE)
        assert found is not None, source
        assert found.name == "llava-1.5-7b"
    assert catalog.for_model("/somewhere/mine", **SHAPE) is None


def test_a_model_of_another_shape_gets_no_heads() -> None:
    assert catalog.for_model("llava-1.5-7b-hf", layers=4, heads_per_layer=4) is None


def test_the_users_entries_win(home: Path) -> None:
    add_heads(home, "llava-1.5-7b")
    assert catalog.head_set("llava-1.5-7b").mode == "given"
    assert [s.name for s in catalog.head_sets()].count("llava-1.5-7b") == 1
    add_heads(home, "better", models="[llava-hf/llava-1.5-13b-hf]")
    (home / "models" / "a.yaml").write_text(
        "name: a\nids: [llava-hf/llava-1.5-13b-hf]\nheads: better\nfolder: files\n"
    )
    found = catalog.for_model("llava-hf/llava-1.5-13b-hf", layers=40, heads_per_layer=40)
    assert found is not None
    assert found.name == "better"
    (home / "files").mkdir()
    by_folder = catalog.find_model(str(home / "files"))
    assert by_folder is not None
    assert by_folder.name == "a"


def test_a_set_of_the_users_wins_over_our_entrys_choice(home: Path) -> None:
    ours = catalog.model_entry("llava-1.5-7b")
    assert getattr(catalog.for_entry(ours), "name", None) == "llava-1.5-7b"
    add_heads(home, "other", models="[somebody/else]")
    assert getattr(catalog.for_entry(ours), "name", None) == "llava-1.5-7b"
    add_heads(home, "mine", models="[llava-hf/llava-1.5-7b-hf]")
    assert getattr(catalog.for_entry(ours), "name", None) == "mine"
    found = catalog.for_model("/somewhere/llava-1.5-7b-hf", **SHAPE)
    assert found is not None
    assert found.name == "mine"
    # What the user's own entry names stands.
    (home / "models" / "llava-1.5-7b.yaml").write_text(
        "name: llava-1.5-7b\nids: [llava-hf/llava-1.5-7b-hf]\nheads: other\n"
    )
    theirs = catalog.model_entry("llava-1.5-7b")
    assert getattr(catalog.for_entry(theirs), "name", None) == "other"
    assert catalog.for_entry(catalog.ModelEntry("x", ids=("a/b",))) is None


def test_a_broken_file_of_the_user_is_named(home: Path) -> None:
    add_heads(home, "mine", mode="Wrong!")
    with pytest.raises(InputError, match=r"mine\.yaml: mode 'Wrong!'"):
        catalog.head_sets()


def test_without_the_variable_the_users_data_folder_is_read(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv(catalog.HOME)
    assert catalog.user_folder().name == "vg-engine"


def test_the_catalogue_is_light() -> None:
    code = (
        "import sys; from vg_engine.registry import catalog, adapters\n"
        "catalog.models(); catalog.head_sets()\n"
        "print({'numpy', 'torch', 'transformers', 'cv2', 'scipy', 'PIL'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


def name_of(heads: HeadSet | None) -> str | None:
    return None if heads is None else heads.name


def test_what_the_user_chose_goes_before_everything(home: Path) -> None:
    for name in ("chosen", "listing"):
        add_heads(home, name, models="[llava-hf/llava-1.5-7b-hf]")
    (home / "models" / "llava-1.5-7b.yaml").write_text(
        "name: llava-1.5-7b\nids: [llava-hf/llava-1.5-7b-hf]\nheads: listing\n"
    )
    entry = catalog.model_entry("llava-1.5-7b")
    assert name_of(catalog.for_entry(entry)) == "listing"
    catalog.set_default(catalog.model_key("llava-hf/llava-1.5-7b-hf"), "chosen")
    assert catalog.defaults() == {"llava-1.5-7b": "chosen"}
    assert name_of(catalog.for_entry(entry)) == "chosen"
    # So do copies of that model, by their folder's name or by what their config says.
    for source, names in [
        ("/somewhere/llava-1.5-7b-hf", ()),
        ("/somewhere/mine", ("llava-hf/llava-1.5-7b-hf",)),
    ]:
        assert name_of(catalog.for_model(source, names=names, **SHAPE)) == "chosen"
    assert catalog.for_model("/somewhere/else", **SHAPE) is None
    catalog.set_default("llava-1.5-7b", None)
    assert name_of(catalog.for_entry(entry)) == "listing"


def test_a_default_counts_for_an_entry_that_names_no_heads(home: Path) -> None:
    (home / "models" / "plain.yaml").write_text("name: plain\naliases: [p]\nids: [org/plain]\n")
    add_heads(home, "mine", models="[]")
    entry = catalog.model_entry("plain")
    assert catalog.for_entry(entry) is None
    catalog.set_default(catalog.model_key("P"), "mine")
    assert name_of(catalog.for_entry(entry)) == "mine"
    for source in ("plain", "p", "org/plain"):
        assert name_of(catalog.for_model(source, **SHAPE)) == "mine"


def test_a_default_that_does_not_fit_is_handed_out_only_for_the_very_model(home: Path) -> None:
    add_heads(home, "small", models="[]", layers=4, heads_per_layer=2)
    catalog.set_default("org/m", "small")
    # The engine then refuses it, aloud.
    assert name_of(catalog.for_model("org/m", **SHAPE)) == "small"
    # A folder that happens to be called so is another model.
    assert catalog.for_model("/somewhere/m", **SHAPE) is None
    assert name_of(catalog.for_model("/somewhere/m", layers=4, heads_per_layer=2)) == "small"


def test_a_default_that_is_gone_is_named_with_its_file(home: Path) -> None:
    catalog.set_default("org/m", "gone")
    with pytest.raises(HeadSetNotFoundError, match=r"'gone', is gone .*defaults\.yaml.*--reset"):
        catalog.for_model("org/m", **SHAPE)
    assert catalog.used_for()["gone"] == ("org/m",)


@pytest.mark.parametrize(
    "name",
    ["~nobody-at-all/x", "a\0b", "", " ", "x" * 5000],
    ids=["user", "nul", "", "blank", "long"],
)
def test_a_model_in_memory_may_be_called_anything(name: str) -> None:
    assert catalog.default_of(name) is None
    assert catalog.model_key(name) == name


def test_where_a_set_lies(home: Path) -> None:
    assert catalog.file_of("embedded") == catalog.OURS / "heads" / "embedded.yaml"
    add_heads(home, "embedded")
    assert catalog.file_of("embedded") == home / "heads" / "embedded.yaml"
    assert catalog.file_of("nobody") == home / "heads" / "nobody.yaml"
