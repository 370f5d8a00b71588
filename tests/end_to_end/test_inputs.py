"""Everything that people type: `inputs.yaml`, line by line."""

import json
import shlex
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import commands
import numpy as np
import pytest
import yaml
from PIL import Image
from typer.main import get_command
from typer.testing import CliRunner

from vg_engine.cli.main import app
from vg_engine.testing.tiny import tiny_llava

ROOT = Path(__file__).resolve().parents[2]
TABLE = yaml.safe_load(Path(__file__).with_name("inputs.yaml").read_text(encoding="utf-8"))
LINES = [tuple(line) for lines in TABLE.values() for line in lines]
LONGEST = 500  # characters of what one mistake is told
SHORT = {  # what many lines share
    "few": "--samples 4 --draws 1 --per-head 2 --data 'scenes?split=calibration&n=6'",
    "four": "--limit 4 --random-draws 2 --resamples 20 --data 'scenes?split=calibration&n=6'",
    "little": (
        "--samples 4 --draws 1 --limit 4 --resamples 20 --calibration "
        "'scenes?split=calibration&n=6' --data 'scenes?split=calibration&draw=1&n=6'"
    ),
}
SET = "name: {name}\nmodels: [embedded]\nrule: paper\nlayers: {layers}\nheads_per_layer: 8\n"
HEADS = "heads: [{head: L4H4}, {head: L3H1}]\n"
FILES = {
    "text.png": "text",
    "void.png": "",
    "void.jsonl": "\n",
    "broken.yaml": "a: [",
    "wrong.yaml": "imag: scene.png",
    "settings.yaml": "image: scene.png\ntext: circle\nregion: otsu\n",
    "mine.yaml": SET.format(name="mine", layers=6) + HEADS,
    "renamed.yaml": SET.format(name="mine", layers=6) + HEADS,
    "taken.yaml": SET.format(name="embedded-paper", layers=6) + HEADS,
    "other-model.yaml": SET.format(name="other-model", layers=40) + HEADS,
    "broken-json/config.json": "{",
    "no-weights/config.json": '{"model_type": "llava"}',
    "no-type/config.json": "{}",
    "unknown-type/config.json": '{"model_type": "zebra"}',
    "stranger/results.jsonl": "{}\n",
}
ASKED = ({"image": "scene.png", "text": "the red circle"}, {"image": "other.png", "text": "star"})
BOX = {"image": "scene.png", "text": "the red circle", "box": [20, 20, 90, 90]}
RECORDS: dict[str, list[dict[str, Any]]] = {
    "questions": [{"id": "first", **ASKED[0]}, ASKED[1]],
    "half": [ASKED[0], {"image": "none.png", "text": "star"}, ASKED[1]],
    "repeated": [{"id": "a", **ASKED[0]}, {"id": "a", **ASKED[1]}],
    "samples": [BOX, {**BOX, "image": "other.png"}, {**BOX, "text": "the star"}],
    "half-samples": [BOX, {**BOX, "image": "none.png"}, {**BOX, "text": "the star"}],
    "no-boxes": [*ASKED],
    "no-pictures": [{**BOX, "image": "none.png"}],
}


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The working folder of every line, as it finds it."""
    folder = tmp_path_factory.mktemp("prepared")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("VG_ENGINE_HOME", str(folder / "home"))
        for name, text in FILES.items():
            Path(name).parent.mkdir(exist_ok=True)
            Path(name).write_text(text, encoding="utf-8")
        for name, records in RECORDS.items():
            Path(f"{name}.jsonl").write_text("\n".join(map(json.dumps, records)))
        Path("array.jsonl").write_text(json.dumps(ASKED))
        Path("folder").mkdir()
        _draw()
        tiny_llava(folder / "tiny")
        tiny_llava(folder / "pickled", safe=False)
        for line in (
            "run scene.png 'the red circle' --out answers",
            "discover {few} --out discovered",
            "eval {four} --out eval-a",
            "eval {four} --out eval-b --heads L4H4",
        ):
            commands.call(*shlex.split(line.format(**SHORT)))
        commands.call("eval", "--data", "jsonl:no-pictures.jsonl", "--out", "failed", code=2)
        yield folder


def _draw() -> None:
    scene = Image.open(ROOT / "examples/scene.png").convert("RGB")
    scene.save("scene.png")
    scene.transpose(Image.Transpose.FLIP_LEFT_RIGHT).save("other.png")
    scene.convert("L").save("grey.png")
    scene.save("with blank.png")
    Image.fromarray(np.zeros((1, 1, 3), np.uint8)).save("point.png")
    Image.fromarray(np.zeros((3, 900, 3), np.uint8)).save("line.png")
    Path("cut.png").write_bytes(Path("scene.png").read_bytes()[:-60])


@pytest.mark.slow
@pytest.mark.parametrize("line", LINES, ids=[line[0] for line in LINES])
def test_what_people_type(
    line: tuple[Any, ...], prepared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    typed, code, words, *partly = line
    shutil.copytree(prepared, tmp_path / "here")
    monkeypatch.chdir(tmp_path / "here")
    monkeypatch.setenv("VG_ENGINE_HOME", str(tmp_path / "here/home"))
    for name, options in SHORT.items():
        typed = typed.replace(f"{{{name}}}", options)
    done = CliRunner().invoke(app, shlex.split(typed))
    assert done.exit_code == code, (done.output, done.exception)
    assert words in done.output
    assert "Traceback" not in done.output
    said = [one for one in done.stderr.splitlines() if not one.startswith("note: ")]
    if code == 0:
        assert not any(one.startswith("error: ") for one in said)
    elif not done.output.strip().startswith("Usage: "):
        assert said
        assert all(one.startswith("error: ") for one in said)
        assert partly or (len(said) == 1 and done.stdout == "")
        assert all(len(one) <= LONGEST for one in said)


def test_there_are_many_and_of_every_command() -> None:
    assert len(LINES) >= 250
    assert set(TABLE) >= set(get_command(app).commands)
