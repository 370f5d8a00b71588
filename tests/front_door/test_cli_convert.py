"""What people hand to `vg-engine convert`, whole and broken; nothing half-made may stay."""

import errno
import json
import os
import re
import resource
import shlex
import shutil
import subprocess
import sys
import tempfile
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import Mock

import commands
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from transformers import AutoModelForImageTextToText

from vg_engine.cli import convert
from vg_engine.model_adapters.conversion import pipeline, schedule
from vg_engine.model_adapters.conversion.pickled import Pickled
from vg_engine.plugins import entrypoints
from vg_engine.testing.tiny import tiny_internvl, tiny_llava

BIN = "pytorch_model.bin"
SCENE = Path(__file__).resolve().parents[2] / "examples/scene.png"


call = partial(commands.call, "convert")


@pytest.fixture
def target(tmp_path: Path) -> Path:
    return tmp_path / "n"


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_llava(tmp_path_factory.mktemp("made") / "llava", safe=False, layers=2)


@pytest.fixture
def source(template: Path, tmp_path: Path) -> Path:
    """A LLaVA in transformers' own form, with pickled weights."""
    return Path(shutil.copytree(template, tmp_path / "source"))


def keys(folder: Path) -> dict[str, torch.Tensor]:
    found = torch.load(folder / BIN, weights_only=True)
    assert isinstance(found, dict)
    return found


def refuses(source: Path, target: Path, words: str, *, stays: bool = False) -> None:
    assert words in commands.refused("convert", source, target)
    assert not list(target.parent.glob(f".{target.name}.*"))
    assert target.exists() == stays


@pytest.mark.parametrize("make", [tiny_llava, tiny_internvl])
def test_pickled_weights_become_safetensors(tmp_path: Path, make: Any) -> None:
    source, target = make(tmp_path / "s", safe=False, layers=2), tmp_path / "new" / "deep"
    done = call(source, target)
    assert "from format pickled" in done.stdout
    made: Any = AutoModelForImageTextToText
    model, info = made.from_pretrained(target, output_loading_info=True)
    assert not any(info[k] for k in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    found = model.state_dict()
    for key, value in keys(source).items():
        assert torch.equal(found[key], value)
    assert not list(target.glob("*.bin"))
    commands.call("run", "--model", target, "--image", SCENE, "--text", "a")


def test_the_old_names_of_transformers_are_known(source: Path, target: Path) -> None:
    whole = keys(source)
    places = {
        "model.vision_tower.": "vision_tower.vision_model.",
        "model.language_model.": "language_model.model.",
        "model.multi_modal_projector.": "multi_modal_projector.",
        "lm_head.": "language_model.lm_head.",
    }
    old = {}
    for key, value in whole.items():
        (new,) = (place for place in places if key.startswith(place))
        old[key.replace(new, places[new])] = value
    assert not set(old) & set(whole)
    torch.save(old, source / BIN)
    call(source, target)
    with safe_open(target / "model.safetensors", "pt") as file:
        assert set(file.keys()) == set(whole)
        assert all(torch.equal(file.get_tensor(key), value) for key, value in whole.items())


def test_the_report_is_printed_and_kept(source: Path, target: Path) -> None:
    target.mkdir()
    done = call(source, target, "--json")
    report = json.loads(done.stdout)
    assert report == json.loads((target / "vg_engine_conversion.json").read_text())
    assert report["format"] == "pickled"
    assert report["tool"].startswith("vg-engine ")
    assert report["tensors"] == len(keys(source))
    assert report["bytes"] == sum(value.nbytes for value in keys(source).values())
    assert (target / "config.json").is_file()


def test_shards_have_their_index(source: Path, target: Path) -> None:
    folders = pipeline.Folders(source, target)
    report = pipeline.convert(folders, [Pickled()], shard_bytes=100_000)
    assert len(report["files"]) > 2
    index = json.loads((target / "model.safetensors.index.json").read_text())["weight_map"]
    assert set(index) == set(keys(source))
    for key, value in keys(source).items():
        with safe_open(target / index[key], "pt") as file:
            assert torch.equal(file.get_tensor(key), value)
    assert all((target / name).stat().st_size < 300_000 for name in report["files"])


def change(folder: Path, name: str, value: object = None) -> None:
    """Puts something else in the place of a tensor, or nothing."""
    found: dict[str, Any] = keys(folder) | {name: value}
    torch.save({key: it for key, it in found.items() if it is not None}, folder / BIN)


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * 0.6)])


def cut_original(folder: Path) -> None:
    description = {"architectures": ["LlavaLlamaForCausalLM"], "model_type": "llava"}
    configure(folder, json.dumps(description))
    (folder / BIN).unlink()
    save_file({"model.norm.weight": torch.ones(999)}, folder / "model.safetensors")
    cut(folder / "model.safetensors")


def configure(folder: Path, text: str) -> None:
    (folder / "config.json").write_text(text)


def list_shards(folder: Path, places: dict[str, Any]) -> None:
    (folder / BIN).rename(folder / "part-1.bin")
    (folder / f"{BIN}.index.json").write_text(json.dumps({"weight_map": places}))


def old_format(folder: Path) -> None:
    torch.save(keys(folder), folder / BIN, _use_new_zipfile_serialization=False)


class Evil:
    """What would run if anything of a pickle ran."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.path,)


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (shutil.rmtree, "no model folder"),
        (lambda s: change(s, "lm_head.weight"), "1 missing (lm_head.weight)"),
        (lambda s: change(s, "model.x", torch.ones(2)), "1 unexpected (model.x)"),
        (lambda s: change(s, "lm_head.weight", torch.ones(3, 3)), "lm_head.weight: [3, 3], the"),
        (lambda s: change(s, "note", "trained on monday"), "is no table of tensors"),
        (lambda s: change(s, "note", Evil(s.parent / "ran")), "holds pickled objects beside tens"),
        (lambda s: torch.save([torch.ones(2)], s / BIN), "is no table of tensors"),
        (lambda s: cut(s / BIN), "is broken or cut short"),
        (cut_original, "is broken or cut short"),
        (lambda s: (s / BIN).write_bytes(b""), "is broken, or in the format"),
        (lambda s: (s / BIN).write_text("version https://git-lfs.github.com"), "git lfs pull"),
        (lambda s: (s / BIN).unlink(), "holds no weights"),
        (lambda s: (s / BIN).rename(s / "adapter_config.json"), "holds a peft adapter alone"),
        (lambda s: (s / "config.json").unlink(), "holds no config.json"),
        (lambda s: configure(s, "{"), "cannot be read"),
        (lambda s: configure(s, "[]"), "holds no JSON object"),
        (lambda s: configure(s, "{}"), "known: internvl_chat ("),
        (lambda s: configure(s, '{"architectures": ["os"]}'), "in no format"),
        (lambda s: configure(s, '{"architectures": "x"}'), "in no format"),
        (old_format, "torch before 1.6"),
        (lambda s: save_file(keys(s), s / "model.safetensors"), "needs no conversion"),
        (lambda s: list_shards(s, {"a": "part-1.bin", "b": "part-2.bin"}), "lacks part-2.bin"),
        (lambda s: list_shards(s, {"a": "../part-1.bin"}), "which is no file of this folder"),
        (lambda s: list_shards(s, {"a": "part-1.pkl"}), "which is no file of this folder"),
        (lambda s: list_shards(s, {"a": "part-1.bin"}), "is in the index and in no file"),
        (lambda s: list_shards(s, {"a": 1}), "holds no weight_map"),
    ],
)
def test_a_broken_source_is_one_line(source: Path, target: Path, damage: Any, words: str) -> None:
    damage(source)
    refuses(source, target, words)
    assert not (source.parent / "ran").exists(), "nothing of a pickle runs"


def test_what_stands_at_the_target_stays(source: Path, target: Path) -> None:
    target.mkdir()
    file = target / "mine.txt"
    file.write_text("mine")
    refuses(source, target, "exists and is not empty", stays=True)
    refuses(source, file, "is a file", stays=True)
    refuses(source, file / "n", "cannot be written")
    assert file.read_text() == "mine"


@pytest.mark.parametrize("inside", ["new", ".", "deep/er"])
def test_the_target_is_never_inside_the_source(source: Path, inside: str) -> None:
    before = sorted(source.rglob("*"))
    assert "lies inside" in commands.refused("convert", source, source / inside)
    assert sorted(source.rglob("*")) == before


@pytest.mark.parametrize(
    ("place", "name", "instead", "words"),
    [
        (shutil, "disk_usage", Mock(return_value=Mock(free=1)), "0.0 GB are free; make room"),
        (schedule.Job, "tensors", Mock(side_effect=OSError(errno.ENOSPC, "full")), "the disk is f"),
        (tempfile, "mkdtemp", Mock(side_effect=PermissionError()), "cannot be written"),
    ],
)
def test_what_the_system_refuses_leaves_nothing(
    source: Path, target: Path, monkeypatch: Any, place: Any, name: str, instead: Mock, words: str
) -> None:
    monkeypatch.setattr(place, name, instead)
    refuses(source, target / "deep", words)
    assert not target.exists()


def test_a_file_that_may_not_grow_leaves_nothing(source: Path, target: Path) -> None:
    """The system itself refuses to write on: a limit on the size of files."""

    def limited() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, 200_000))

    done = subprocess.run(
        [sys.executable, "-m", "vg_engine", "convert", str(source), str(target)],
        capture_output=True, text=True, check=False, preexec_fn=limited,
        env=os.environ | {"PYTHONDONTWRITEBYTECODE": "1"},
    )  # fmt: skip
    assert done.returncode == 2, done.stderr
    assert "cannot be written" in done.stderr.splitlines()[-1]
    assert list(target.parent.iterdir()) == [source]


def test_control_c_leaves_nothing(source: Path, target: Path, monkeypatch: Any) -> None:
    def stop(_: object) -> Any:
        assert list(target.parent.glob(".n.*")), "the weights are written beside the target"
        raise KeyboardInterrupt

    monkeypatch.setattr(schedule.Job, "tensors", stop)
    done = call(source, target, code=130)
    assert "nothing was written" in done.stderr
    assert list(target.parent.iterdir()) == [source]


def test_progress_goes_to_stderr(source: Path, target: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr(convert, "_FIRST", -1.0)
    done = call(source, target)
    assert "% of 0.00 GB written (model.safetensors" in done.stderr
    assert "%" not in done.stdout


DOCS = (SCENE.parents[1] / "docs/convert.md").read_text(encoding="utf-8")
COMMANDS = re.findall(r"^(?:\| .* )?`?(vg-engine convert [^`\n]+)", DOCS, flags=re.MULTILINE)


def test_the_docs_commands_are_understood(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert len(COMMANDS) == 6
    for line in COMMANDS:
        # Their folders are the reader's: that the first is not there is all that is wrong.
        error = commands.refused(*shlex.split(line)[1:])
        assert error.startswith("error: no model folder"), line


def test_converters_of_other_packages(source: Path, target: Path, monkeypatch: Any) -> None:
    """A stranger's format needs an entry point and nothing else."""

    class Odd(Pickled):
        name = "odd"
        summary = "a format of somebody else's"

        def claims(self, config: Any) -> bool:
            return config.get("model_type") == "odd"

        def plan(self, request: Any) -> Any:
            checkpoint = request.source
            checkpoint.config = {**checkpoint.config, "model_type": "llava"}
            return Pickled().plan(replace(request, source=checkpoint))

    group = entrypoints.CONVERTERS
    ours = entrypoints.installed(group)
    theirs = entrypoints.Entry("odd", "vg_odd:Odd", "vg-odd", "1.0", group)
    broken = entrypoints.Entry("bad", "vg_bad:Bad", "vg-bad", "2.0", group)
    monkeypatch.setitem(sys.modules, "vg_odd", SimpleNamespace(Odd=Odd))
    monkeypatch.setattr(entrypoints, "installed", lambda _: (*ours, broken, theirs))
    config = json.loads((source / "config.json").read_text()) | {"model_type": "odd"}
    configure(source, json.dumps(config))
    done = call(source, target)
    assert "from format odd" in done.stdout
    assert "converter 'bad' of vg-bad 2.0 is broken" in done.stderr
