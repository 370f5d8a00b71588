"""What people hand to `vg-engine convert`, whole and broken; nothing half-made may stay."""

from __future__ import annotations

import errno
import json
import os
import re
import resource
import shlex
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from transformers import AutoModelForImageTextToText
from typer.testing import CliRunner, Result

from vg_engine.cli import convert as command
from vg_engine.cli.main import app
from vg_engine.model_adapters.conversion import pipeline, schedule, shard_writer
from vg_engine.model_adapters.conversion.pickled import Pickled
from vg_engine.plugins import entrypoints
from vg_engine.testing.tiny import tiny_internvl, tiny_llava

BIN = "pytorch_model.bin"
SCENE = Path(__file__).resolve().parents[2] / "examples/scene.png"


def call(*arguments: object) -> Result:
    return CliRunner().invoke(app, ["convert", *map(str, arguments)])


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


def refused(done: Result, words: str, target: Path) -> None:
    assert done.exit_code == 2, done.output
    (line,) = done.stderr.splitlines()
    assert line.startswith("error: ")
    assert words in line
    assert not done.stdout
    assert not list(target.parent.glob(f".{target.name}.*"))


def refused_and_nothing_made(done: Result, words: str, target: Path) -> None:
    refused(done, words, target)
    assert not target.exists()


@pytest.mark.parametrize("make", [tiny_llava, tiny_internvl])
def test_pickled_weights_become_safetensors(tmp_path: Path, make: Any) -> None:
    source, target = make(tmp_path / "s", safe=False, layers=2), tmp_path / "new" / "deep"
    done = call(source, target)
    assert done.exit_code == 0, done.output
    assert "from format pickled" in done.stdout
    made: Any = AutoModelForImageTextToText
    model, info = made.from_pretrained(target, output_loading_info=True)
    assert not any(info[k] for k in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    found = model.state_dict()
    for key, value in keys(source).items():
        assert torch.equal(found[key], value)
    assert not list(target.glob("*.bin"))
    ran = CliRunner().invoke(
        app, ["run", "--model", str(target), "--image", str(SCENE), "--text", "a"]
    )
    assert ran.exit_code == 0, ran.output


def test_the_old_names_of_transformers_are_known(source: Path, tmp_path: Path) -> None:
    whole = keys(source)
    places = {
        "model.vision_tower.": "vision_tower.vision_model.",
        "model.language_model.": "language_model.model.",
        "model.multi_modal_projector.": "multi_modal_projector.",
        "lm_head.": "language_model.lm_head.",
    }
    old = {
        key.replace(new, before): value
        for key, value in whole.items()
        for new, before in places.items()
        if key.startswith(new)
    }
    assert len(old) == len(whole)
    assert not set(old) & set(whole)
    torch.save(old, source / BIN)
    assert call(source, tmp_path / "n").exit_code == 0
    with safe_open(tmp_path / "n/model.safetensors", "pt") as file:
        assert set(file.keys()) == set(whole)
        assert all(torch.equal(file.get_tensor(key), value) for key, value in whole.items())


def test_the_report_is_printed_and_kept(source: Path, tmp_path: Path) -> None:
    done = call(source, tmp_path / "n", "--json")
    report = json.loads(done.stdout)
    assert report == json.loads((tmp_path / "n/vg_engine_conversion.json").read_text())
    assert report["format"] == "pickled"
    assert report["tool"].startswith("vg-engine ")
    assert report["tensors"] == len(keys(source))
    assert report["bytes"] == sum(value.nbytes for value in keys(source).values())


def test_an_empty_folder_may_be_the_target(source: Path, tmp_path: Path) -> None:
    (tmp_path / "n").mkdir()
    assert call(source, tmp_path / "n").exit_code == 0
    assert (tmp_path / "n/config.json").is_file()


def test_shards_have_their_index(source: Path, tmp_path: Path) -> None:
    target = tmp_path / "n"
    folders = pipeline.Folders(source, target)
    report = pipeline.convert(folders, [Pickled()], shard_bytes=100_000)
    assert len(report["files"]) > 2
    index = json.loads((target / "model.safetensors.index.json").read_text())["weight_map"]
    assert set(index) == set(keys(source))
    for key, value in keys(source).items():
        with safe_open(target / index[key], "pt") as file:
            assert torch.equal(file.get_tensor(key), value)
    assert all((target / name).stat().st_size < 300_000 for name in report["files"])


def change(folder: Path, **new: Any) -> None:
    found: dict[str, Any] = dict(keys(folder))
    for key, value in new.items():
        name = key.replace("__", ".")
        if value is None:
            del found[name]
        else:
            found[name] = value
    torch.save(found, folder / BIN)


def cut(path: Path, share: float = 0.6) -> None:
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * share)])


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
        (lambda s: change(s, lm_head__weight=None), "1 missing (lm_head.weight)"),
        (lambda s: change(s, model__x=torch.ones(2)), "1 unexpected (model.x)"),
        (lambda s: change(s, lm_head__weight=torch.ones(3, 3)), "lm_head.weight: [3, 3], the"),
        (lambda s: change(s, note="trained on monday"), "is no table of tensors"),
        (lambda s: torch.save([torch.ones(2)], s / BIN), "is no table of tensors"),
        (lambda s: cut(s / BIN), "is broken or cut short"),
        (lambda s: (s / BIN).write_bytes(b""), "is broken, or in the format"),
        (lambda s: (s / BIN).write_text("version https://git-lfs.github.com"), "git lfs pull"),
        (lambda s: (s / BIN).unlink(), "holds no weights"),
        (lambda s: (s / "config.json").unlink(), "holds no config.json"),
        (lambda s: (s / "config.json").write_text("{"), "cannot be read"),
        (lambda s: (s / "config.json").write_text("[]"), "holds no JSON object"),
        (lambda s: (s / "config.json").write_text("{}"), "known: internvl_chat ("),
        (lambda s: (s / "config.json").write_text('{"architectures": ["os"]}'), "of no format"),
        (lambda s: (s / "config.json").write_text('{"architectures": "x"}'), "of no format"),
        (old_format, "torch before 1.6"),
        (lambda s: save_file(keys(s), s / "model.safetensors"), "needs no conversion"),
    ],
)  # fmt: skip
def test_a_broken_source_is_one_line(source: Path, tmp_path: Path, damage: Any, words: str) -> None:
    damage(source)
    refused_and_nothing_made(call(source, tmp_path / "n"), words, tmp_path / "n")


def test_nothing_of_a_pickle_runs(source: Path, tmp_path: Path) -> None:
    torch.save({"weight": Evil(tmp_path / "ran")}, source / BIN)
    done = call(source, tmp_path / "n")
    refused_and_nothing_made(done, "holds pickled objects beside tensors", tmp_path / "n")
    assert not (tmp_path / "ran").exists()


def index_of(source: Path, places: dict[str, str]) -> None:
    (source / BIN).rename(source / "part-1.bin")
    (source / f"{BIN}.index.json").write_text(json.dumps({"weight_map": places}))


@pytest.mark.parametrize(
    ("places", "words"),
    [
        ({"a": "part-1.bin", "b": "part-2.bin"}, "lacks part-2.bin"),
        ({"a": "../part-1.bin"}, "which is no file of this folder"),
        ({"a": "part-1.pkl"}, "which is no file of this folder"),
        ({"a": "part-1.bin"}, "is in the index and in no file"),
        ({"a": 1}, "holds no weight_map"),
    ],
)
def test_a_broken_index_is_one_line(
    source: Path, tmp_path: Path, places: dict[str, Any], words: str
) -> None:
    index_of(source, places)
    refused_and_nothing_made(call(source, tmp_path / "n"), words, tmp_path / "n")


def test_a_truncated_safetensors_is_one_line(tmp_path: Path) -> None:
    source = tmp_path / "s"
    source.mkdir()
    said = {"architectures": ["LlavaLlamaForCausalLM"], "model_type": "llava"}
    (source / "config.json").write_text(json.dumps(said))
    save_file({"model.norm.weight": torch.ones(999)}, source / "model.safetensors")
    cut(source / "model.safetensors")
    done = call(source, tmp_path / "n")
    refused_and_nothing_made(done, "is broken or cut short", tmp_path / "n")


def test_a_source_that_is_not_there(tmp_path: Path) -> None:
    done = call(tmp_path / "none", tmp_path / "n")
    refused_and_nothing_made(done, "no model folder", tmp_path / "n")


def test_what_stands_at_the_target_stays(source: Path, tmp_path: Path) -> None:
    target = tmp_path / "n"
    target.mkdir()
    (target / "mine.txt").write_text("mine")
    refused(call(source, target), "exists and is not empty", target)
    assert (target / "mine.txt").read_text() == "mine"
    refused(call(source, target / "mine.txt"), "is a file", target)
    refused(call(source, target / "mine.txt/n"), "cannot be written", target)


@pytest.mark.parametrize("inside", ["new", ".", "deep/er"])
def test_the_target_is_never_inside_the_source(source: Path, inside: str) -> None:
    before = sorted(source.rglob("*"))
    done = call(source, source / inside)
    assert done.exit_code == 2
    assert "lies inside" in done.stderr
    assert sorted(source.rglob("*")) == before


def test_room_is_looked_for_first(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        shard_writer.shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(9, 8, 1)
    )
    done = call(source, tmp_path / "deep" / "n")
    refused_and_nothing_made(done, "0.0 GB are free; make room", tmp_path / "deep" / "n")
    assert not (tmp_path / "deep").exists()


def test_a_disk_that_fills_up_leaves_nothing(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_: object) -> Any:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(schedule.Job, "tensors", full)
    refused_and_nothing_made(call(source, tmp_path / "n"), "the disk is full", tmp_path / "n")


def test_a_folder_that_may_not_be_written_is_one_line(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def forbidden(**_: object) -> str:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(shard_writer.tempfile, "mkdtemp", forbidden)
    refused_and_nothing_made(call(source, tmp_path / "n"), "cannot be written", tmp_path / "n")


def test_a_file_that_may_not_grow_leaves_nothing(source: Path, tmp_path: Path) -> None:
    """The system itself refuses to write on: a limit on the size of files."""

    def limited() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, 200_000))

    done = subprocess.run(
        [sys.executable, "-m", "vg_engine", "convert", str(source), str(tmp_path / "n")],
        capture_output=True, text=True, check=False, preexec_fn=limited,
        env=os.environ | {"PYTHONDONTWRITEBYTECODE": "1"},
    )  # fmt: skip
    assert done.returncode == 2, done.stderr
    assert "cannot be written" in done.stderr.splitlines()[-1]
    assert not (tmp_path / "n").exists()
    assert not list(tmp_path.glob(".n.*"))


def test_control_c_leaves_nothing(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(_: object) -> Any:
        assert list(tmp_path.glob(".n.*")), "the weights are written beside the target"
        raise KeyboardInterrupt

    monkeypatch.setattr(schedule.Job, "tensors", stop)
    done = call(source, tmp_path / "n")
    assert done.exit_code == 130
    assert "nothing was written" in done.stderr
    assert not (tmp_path / "n").exists()
    assert not list(tmp_path.glob(".n.*"))


def test_progress_goes_to_stderr(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(command, "_FIRST", -1.0)
    done = call(source, tmp_path / "n")
    assert "% of 0.00 GB written (model.safetensors" in done.stderr
    assert "%" not in done.stdout


DOCS = (SCENE.parents[1] / "docs/convert.md").read_text(encoding="utf-8")
COMMANDS = re.findall(r"^(?:\| .* )?`?(vg-engine convert [^`\n]+)", DOCS, flags=re.MULTILINE)


def test_the_docs_commands_are_understood(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert len(COMMANDS) == 6
    for line in COMMANDS:
        done = call(*shlex.split(line)[2:])
        # Their folders are the reader's: that the first is not there is all that is wrong.
        assert done.stderr.startswith("error: no model folder"), (line, done.output)


def test_help_imports_no_torch() -> None:
    code = (
        "import sys\nfrom vg_engine.cli.main import app\n"
        "app(['convert', '--help'], standalone_mode=False)\n"
        "assert not {'torch', 'transformers', 'numpy'} & set(sys.modules), 'heavy'"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "--vision-tower" in done.stdout


def test_a_converter_of_another_package_is_asked_and_a_broken_one_is_told(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A stranger's format needs an entry point and nothing else."""

    class Odd(Pickled):
        name = "odd"
        summary = "a format of somebody else's"

        def claims(self, config: Any) -> bool:
            return config.get("model_type") == "odd"

        def plan(self, request: Any) -> Any:
            return Pickled().plan(replace(request, source=renamed(request.source)))

    def renamed(checkpoint: Any) -> Any:
        checkpoint.config = {**checkpoint.config, "model_type": "llava"}
        return checkpoint

    ours = entrypoints.installed(entrypoints.CONVERTERS)
    group = entrypoints.CONVERTERS
    theirs = entrypoints.Entry("odd", "vg_odd:Odd", "vg-odd", "1.0", group)
    broken = entrypoints.Entry("bad", "vg_bad:Bad", "vg-bad", "2.0", group)
    monkeypatch.setitem(sys.modules, "vg_odd", SimpleNamespace(Odd=Odd))
    monkeypatch.setattr(entrypoints, "installed", lambda _: (*ours, broken, theirs))
    config = json.loads((source / "config.json").read_text()) | {"model_type": "odd"}
    (source / "config.json").write_text(json.dumps(config))
    done = call(source, tmp_path / "n")
    assert done.exit_code == 0, done.stderr
    assert "from format odd" in done.stdout
    assert "converter 'bad' of vg-bad 2.0 is broken" in done.stderr
