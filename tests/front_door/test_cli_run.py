import io
import json
import os
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path
from typing import Any

import commands
import numpy as np
import pytest
from PIL import Image

from vg_engine.cli import console
from vg_engine.plugins.exporters.masks import from_rle

CELL = ("--adapter", "cell", "--model", "cells", "--heads", "L2H1")
ASK = (*CELL, "--image", "a.png", "--text", "1,2")


run = partial(commands.call, "run")


def records(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines()]


def as_lines(*questions: dict[str, str]) -> str:
    return "".join(json.dumps(question) + "\n" for question in questions)


def contents(folder: Path) -> dict[Path, bytes]:
    """All that is below a folder, byte by byte."""
    return {path: path.read_bytes() if path.is_file() else b"" for path in folder.rglob("*")}


def test_one_picture_one_text(folder: Path) -> None:
    done = run(*ASK, "--out", "out")
    (line,) = done.stdout.splitlines()
    assert line.startswith("a.png: 1,2  ->  box ")
    assert line.endswith(f"  {Path('out') / 'a-1-2.png'}")
    assert "note: cells have no model" in done.stderr
    names = ["a-1-2.png", "results.jsonl", "run.json"]
    assert sorted(path.name for path in Path("out").iterdir()) == names
    with Image.open("out/a-1-2.png") as image:
        assert image.size[0] == 640
    (record,) = records(Path("out/results.jsonl").read_text())
    assert record["overlay"] == "a-1-2.png"
    assert (record["id"], record["image"], record["expression"]) == (1, "a.png", "1,2")


def test_every_text_about_every_picture(folder: Path) -> None:
    done = run(*ASK, "--image", "b.png", "--text", " 3,4 ", "--json", "--out", "out", "--mask")
    answers = records(done.stdout)
    asked = [(image, text) for image in ("a.png", "b.png") for text in ("1,2", "3,4")]
    assert [(a["image"], a["expression"]) for a in answers] == asked
    assert records(Path("out/results.jsonl").read_text()) == answers
    for answer in answers:
        with Image.open(Path("out") / answer["mask_files"][0]) as image:
            assert np.array_equal(np.asarray(image) == 255, from_rle(answer["masks"][0]))
    names = {path.name for path in Path("out").iterdir()}
    assert {"a-all.png", "b-all.png", "a-3-4.png", "b-1-2.mask.png"} < names


def gradient(width: int = 40, height: int = 30) -> Image.Image:
    pixels = np.zeros((height, width, 3), np.uint8)
    pixels[..., 0] = np.linspace(0, 255, width)
    return Image.fromarray(pixels)


DEEP = Image.fromarray(np.linspace(0, 65535, 1200).reshape(30, 40).astype(np.uint16))
TURNED = Image.Exif()
TURNED[0x0112] = 6
MOVING = {"save_all": True, "append_images": [Image.new("RGB", (40, 30), "red")]}


@pytest.mark.parametrize(
    ("file", "image", "options", "size", "words"),
    [
        ("cmyk.jpg", gradient().convert("CMYK"), {}, (40, 30), ""),
        ("16-bit.png", DEEP, {}, (40, 30), "16"),
        ("palette.png", gradient().quantize(16), {}, (40, 30), ""),
        ("rgba.png", gradient().convert("RGBA"), {}, (40, 30), ""),
        ("turned.jpg", gradient(), {"exif": TURNED}, (30, 40), "EXIF"),
        ("moving.gif", gradient(), MOVING, (40, 30), "first"),
        ("point.png", gradient(1, 1), {}, (1, 1), ""),
        ("line.png", gradient(1, 5000), {}, (1, 5000), ""),
    ],
)
def test_pictures_that_arrive_in_real_life(
    folder: Path, file: str, image: Image.Image, options: Any, size: tuple[int, int], words: str
) -> None:
    image.save(file, **options)
    done = run(*CELL, "--image", file, "--text", "1,2", "--json", "--out", "out")
    answer = json.loads(done.stdout)
    ((left, top, right, bottom),) = answer["boxes"]
    assert 0 <= left < right <= size[0]
    assert 0 <= top < bottom <= size[1]
    assert words in done.stderr
    assert Path("out", answer["overlay"]).exists()


def test_without_out_nothing_is_written(folder: Path) -> None:
    before = contents(folder)
    assert len(run(*ASK).stdout.splitlines()) == 1
    assert contents(folder) == before


def test_a_batch_goes_on_past_what_fails(folder: Path) -> None:
    (folder / "sub").mkdir()
    (folder / "a.png").rename(folder / "sub" / "c.png")
    asked = [
        ('{"id": "first", "image": "c.png", "text": "1,2"}', "first", None),
        ('{"image": "none.png", "text": "1,2"}', 2, "no such file"),
        ("no json", 3, "line 3 is not JSON"),
        ("", None, None),
        ('{"id": 9, "image": "c.png", "text": "broken"}', 9, "35"),
        ('{"image": "c.png", "text": "  "}', 6, "is empty"),
        ('{"image": "c.png"}', 7, "names no text"),
        ('{"text": "1,2"}', 8, "names no image"),
        ("[1]", 9, "line 9 is not a record"),
        ('{"id": "last", "image": "c.png", "text": "5,5"}', "last", None),
    ]
    (folder / "sub" / "q.jsonl").write_text("\n".join(line for line, _, _ in asked))
    done = run(*CELL, "--input", "sub/q.jsonl", "--json", "--out", "out", code=2)
    answers = records(done.stdout)
    for answer, (_, name, words) in zip(answers, asked[:3] + asked[4:], strict=True):
        assert answer["id"] == name
        assert words in answer["error"] if words else answer.get("error") is None
    assert records(Path("out/results.jsonl").read_text()) == answers
    assert answers[0]["overlay"] == "first-1-2.png"
    assert done.stderr.count("error: record ") == 7


def test_a_batch_that_all_succeeds_exits_with_0(folder: Path) -> None:
    texts = [f"{n % 6},{n // 6}" for n in range(20)]
    asked = as_lines(*({"image": "a.png", "text": text} for text in texts))
    done = run(*CELL, "--input", "-", "--json", "--batch-size", "3", stdin=asked)
    assert [record["expression"] for record in records(done.stdout)] == texts


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--text", "1,2"], "no picture is given; name one with --image"),
        (["--image", "a.png"], "nothing to look for; say it with --text"),
        (["--image", "a.png", "--text", " "], "the expression is empty"),
        (["--image", "none.png", "--text", "1,2"], "none.png: no such file; check the path"),
        (["--image", "none.png", "--text", "1,2", "--out", "x/y/z"], "no such file"),
        (["--image", "cut.png", "--text", "1,2"], "cut.png"),
        (["--image", "void.png", "--text", "1,2"], "void.png"),
        (["--image", "large.png", "--text", "1,2"], "raise --max-pixels"),
        (["--image", "text.png", "none.png", "1,2"], "not a picture"),
        (["1,2", "3,4"], "no picture is given"),
        ([*ASK, "--max-pixels", "9"], "raise --max-pixels"),
        ([*ASK, "--heads", "L9H1"], "L9H1 is out of range"),
        ([*ASK, "--heads", "nobodys"], "no head set 'nobodys'"),
        ([*ASK, "--adapter", "sell"], "did you mean cell"),
        ([*ASK, "--region", "papr"], "did you mean paper?"),
        ([*ASK, "--postprocess", "shur"], "did you mean sure?"),
        ([*ASK, "--prompt", "talk"], "must be 'bare' or 'chat'"),
        ([*ASK, "--query-row", "x"], "choose expression_last"),
        (["--image", "a.png", "--text", "broken"], "expected 36 image tokens, got 35"),
        ([*ASK, "--input", "q.jsonl"], "--input stands alone"),
        (["--input", "none.jsonl"], "--input none.jsonl cannot be read"),
        (["--input", "void.jsonl"], "--input void.jsonl is empty"),
        (["--input", "a\0b"], "cannot be read: embedded null byte"),
        (["--input", "results.jsonl", "--out", "."], "would overwrite results.jsonl"),
        ([*ASK, "--out", "taken"], "taken holds results.jsonl of another run"),
        ([*ASK, "--heads", f"L{'9' * 5000}H1"], "no head set"),
        ([*ASK, "--region", "otsu:factor=1.5"], "a whole number"),
        ([*ASK, "--region", "mean_std:c=nan"], "takes a number"),
        (["--input", "a.png"], "it is not UTF-8 text"),
        ([*ASK, "--max-pixels", "x"], "--max-pixels"),
        (["--imagee", "a.png"], "--imagee"),
        ([*ASK, "--batch-size", "0"], "--batch-size"),
        ([*ASK, "--out", ""], "'--out' / '-o': it is empty"),
        ([*ASK, "--model", ".", "--revision", "main"], ". is a folder, which has no revisions"),
    ],
)
def test_mistakes_leave_one_line_and_no_files(folder: Path, arguments: Any, words: str) -> None:
    (folder / "text.png").write_text("text")
    (folder / "void.png").write_text("")
    (folder / "void.jsonl").write_text("\n")
    (folder / "cut.png").write_bytes((folder / "a.png").read_bytes()[:-60])
    (folder / "results.jsonl").write_text(as_lines({"image": "a.png", "text": "1,2"}))
    (folder / "taken" / "results.jsonl").mkdir(parents=True)
    if "large.png" in arguments:  # 65.6 megapixels; 64 are allowed
        Image.new("1", (8200, 8000)).save("large.png")
    before = contents(folder)
    assert words in commands.refused("run", *CELL, "--out", "out", *arguments, notes=True)
    assert contents(folder) == before


def test_pictures_and_texts_need_no_option(folder: Path) -> None:
    """A shell writes `*.png` out; what is no picture is a text."""
    every = [(image, text) for image in ("a.png", "b.png") for text in ("1,2", "3,4")]
    for words in (
        ("a.png", "b.png", "1,2", "3,4"),
        ("1,2", "a.png", "3,4", "b.png"),
        ("--image", "a.png", "b.png", "--text", "1,2", "3,4"),
    ):
        answers = records(run(*CELL, *words, "--json").stdout)
        assert [(a["image"], a["expression"]) for a in answers] == every, words


def test_a_picture_that_cannot_be_used_leaves_the_others_alone(folder: Path) -> None:
    done = run(*CELL, "a.png", "none.png", "b.png", "1,2", "--json", "--out", "out", code=2)
    answers = records(done.stdout)
    assert [answer["image"] for answer in answers] == ["a.png", "none.png", "b.png"]
    assert ["error" in answer for answer in answers] == [False, True, False]
    assert "error: record 2: none.png: no such file; check the path" in done.stderr
    assert records(Path("out/results.jsonl").read_text()) == answers


def test_a_folder_holds_the_answers_of_one_command(folder: Path) -> None:
    (folder / "q.jsonl").write_text(as_lines({"image": "a.png", "text": "1,2"}))
    asked = ("run", *CELL, "--input", "q.jsonl", "--out", "out")
    commands.call(*asked, "--mask")
    (folder / "q.jsonl").write_text(as_lines({"image": "a.png", "text": "3,4"}))
    commands.call(*asked)  # the same command: its questions were mended
    names = ["a-3-4.png", "results.jsonl", "run.json"]
    assert sorted(path.name for path in Path("out").iterdir()) == names
    before = contents(folder)
    other = "out belongs to a run of other settings (region: none there, otsu now); choose another"
    assert other in commands.refused(*asked, "--region", "otsu")
    (folder / "out" / "run.json").unlink()
    assert "out holds results.jsonl of another run" in commands.refused(*asked)
    assert contents(folder) == {k: v for k, v in before.items() if k.name != "run.json"}


def test_a_run_that_failed_leaves_its_folder_to_others(folder: Path) -> None:
    (folder / "out").mkdir()
    commands.refused("run", *CELL, "a.png", "broken", "--out", "out", notes=True)
    assert not list((folder / "out").iterdir())


def test_masks_need_a_place(folder: Path) -> None:
    assert "say where with --out" in commands.refused("run", *ASK, "--mask", notes=True)


@pytest.mark.parametrize("out", ["file", "file/below"])
def test_a_folder_that_cannot_be_written_comes_first(folder: Path, kit: Any, out: str) -> None:
    (folder / "file").write_text("x")
    assert "cannot be written" in run(*ASK, "--out", out, code=2).stderr
    assert not kit.CellAdapter.specs


def test_a_bug_shows_its_traceback(folder: Path) -> None:
    done = run(*CELL, "--image", "a.png", "--text", "bug", code=1)
    assert isinstance(done.exception, ZeroDivisionError)


def test_ctrl_c_keeps_what_was_written(folder: Path) -> None:
    asked = ("--text", "stop", "--out", "out", "--batch-size", "1")
    done = run(*ASK, *asked, code=130)
    assert done.stderr.splitlines()[-1] == "error: stopped; what was written stays"
    assert [r["expression"] for r in records(Path("out/results.jsonl").read_text())] == ["1,2"]
    assert not list(Path("out").glob(".*"))


def test_options_reach_the_engine(folder: Path, kit: Any) -> None:
    done = run(
        *ASK, "--json", "--geometry", "pad", "--device", "cpu", "--dtype", "float32", "--revision",
        "main", "--trust-remote-code", "--postprocess", "sure", "--query-row", "prompt_last",
        "--region", "mean_std:c=1.5",
    )  # fmt: skip
    (spec,) = kit.CellAdapter.specs
    assert (spec.device, spec.dtype, spec.revision) == ("cpu", "float32", "main")
    assert spec.trust_remote_code
    assert dict(spec.options) == {"geometry": "pad"}
    (answer,) = records(done.stdout)
    assert answer["provenance"]["query_row"] == "prompt_last"
    assert answer["provenance"]["region"] == "mean_std:c=1.5"
    assert "sure" in answer["notes"]


def test_notes_are_said_once(folder: Path) -> None:
    done = run("--adapter", "cell", "--model", "cells", "--image", "a.png", *("--text", "1,2") * 3)
    notes = [line for line in done.stderr.splitlines() if line.startswith("note: ")]
    assert len(notes) == len(set(notes))
    assert "vg-engine discover" in done.stderr


def test_names_of_files_are_safe_and_each_is_there_once(folder: Path) -> None:
    ids = ("../../up", "x/y", "x/y", "ünï", "", "a" * 300)
    asked = as_lines(*({"id": name, "image": "a.png", "text": "1,2"} for name in ids))
    run(*CELL, "--input", "-", "--out", "out", stdin=asked)
    expected = ["1-2", f"{'a' * 40}-1-2", "n-1-2", "up-1-2", "x-y-1-2", "x-y-1-2-2"]
    assert sorted(path.stem for path in Path("out").glob("*.png")) == expected


@pytest.mark.skipif(os.name == "nt", reason="sends a signal")
def test_ctrl_c_in_a_terminal_is_one_line(folder: Path) -> None:
    """The real thing: a signal while the command waits for its questions."""
    command = [sys.executable, "-m", "vg_engine", "run", "--input", "-", "--out", "out"]
    pipe = subprocess.PIPE
    work = subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, text=True)
    for _ in range(2400):
        if Path("out").is_dir():
            break
        time.sleep(0.05)
    time.sleep(0.2)
    work.send_signal(signal.SIGINT)
    out, err = work.communicate(timeout=60)
    assert (work.returncode, out) == (130, "")
    assert err == "error: stopped; what was written stays\n"
    assert not Path("out").exists()


def test_a_record_that_is_no_text_leaves_the_others_alone(folder: Path) -> None:
    lines = [
        '{"image": "a.png", "text": "\\ud800"}',
        '{"image": "\\ud800.png", "text": "1,2"}',
        '{"id": "\\ud800", "image": "a.png", "text": "1,2"}',
        '{"image": "a.png", "text": "\\u200b"}',
        "[" * 100_000,
        '{"image": "a\\u0000.png", "text": "1,2"}',
        '{"image": "a.png", "text": "3,4"}',
    ]
    stdin = "\ufeff" + "\n".join(lines)
    done = run(*CELL, "--input", "-", "--json", "--out", "out", stdin=stdin, code=2)
    answers = records(done.stdout)
    assert ["error" in a for a in answers] == [True, True, False, True, True, True, False]
    assert "broken text" in answers[0]["error"]
    assert answers[1]["image"] == "\ud800.png"
    assert answers[2]["id"] == "\ud800"
    assert records(Path("out/results.jsonl").read_text()) == answers


def test_stdout_of_few_characters_still_carries_json(monkeypatch: pytest.MonkeyPatch) -> None:
    stdout = io.TextIOWrapper(io.BytesIO(), encoding="cp1252")
    monkeypatch.setattr(sys, "stdout", stdout)
    console.result('{"text": "tasse \xe9 \u676f \U0001f3e0"}')
    written = stdout.buffer.getvalue().decode("cp1252")  # type: ignore[attr-defined]
    assert json.loads(written) == {"text": "tasse \xe9 \u676f \U0001f3e0"}
    assert "\xe9" in written


def test_nothing_that_is_asked_about_is_overwritten(folder: Path) -> None:
    for name in ("1-2.png", "x-1-2.mask.png"):
        (folder / name).write_bytes((folder / "a.png").read_bytes())
    before = contents(folder)
    asked = as_lines(
        {"id": "\u676f", "image": "1-2.png", "text": "1,2"},
        {"id": "x", "image": "x-1-2.mask.png", "text": "1,2"},
    )
    run(*CELL, "--input", "-", "--out", ".", "--mask", stdin=asked)
    assert before.items() <= contents(folder).items()


def test_a_sheet_says_how_much_of_it_there_is(folder: Path) -> None:
    texts = [part for n in range(14) for part in ("--text", f"{n % 6},{n // 6}")]
    for shown, description in ((texts[:24], "all answers"), (texts, "the first 12 answers")):
        done = run(*CELL, "--image", "a.png", *shown, "--out", str(len(shown)))
        assert f"{description} about a.png side by side" in done.stderr


def test_other_libraries_are_silent_meanwhile(folder: Path, kit: Any, monkeypatch: Any) -> None:
    from transformers.utils import logging as theirs

    before = theirs.get_verbosity()
    heard = []
    prepare = kit.CellAdapter.vg_prepare_inputs

    def listening(self: Any, scenes: Any, expressions: Any) -> Any:
        heard.append(theirs.get_verbosity())
        return prepare(self, scenes, expressions)

    monkeypatch.setattr(kit.CellAdapter, "vg_prepare_inputs", listening)
    run(*ASK)
    assert heard == [theirs.ERROR]
    assert theirs.get_verbosity() == before


def test_ids_come_back_as_they_were_and_repeated_ones_are_told(folder: Path) -> None:
    ids = [2.0, 1.0, 2, "a", None, True, [1]]
    lines = as_lines(*({"id": name, "image": "a.png", "text": "1,2"} for name in ids))
    done = run(*CELL, "--input", "-", "--json", stdin=lines, code=2)
    assert [line["id"] for line in records(done.stdout)] == [2.0, 1.0, 2, "a", 5, 6, 7]
    assert [type(line["id"]) for line in records(done.stdout)][:3] == [float, float, int]
    assert "note: ids are not unique: 2.0 stands for 2 questions" in done.stderr
    assert done.stderr.count("is no text and no number") == 2


def test_an_address_in_a_file_of_questions_is_named_as_it_is(folder: Path) -> None:
    lines = as_lines({"image": "https://example.org/a.png", "text": "1,2"})
    Path("q.jsonl").write_text(lines)
    done = run(*CELL, "--input", "q.jsonl", code=2)
    assert "https://example.org/a.png: pictures are not fetched" in done.stderr
