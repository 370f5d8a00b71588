"""Pictures that must work and mistakes that must fail, through the command line."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from vg_engine.cli.main import app

CELL = ("--adapter", "cell", "--model", "cells", "--heads", "L2H1")


def gradient(width: int = 40, height: int = 30) -> Image.Image:
    pixels = np.zeros((height, width, 3), np.uint8)
    pixels[..., 0] = np.linspace(0, 255, width)
    return Image.fromarray(pixels)


def turned(path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    gradient().save(path, exif=exif)


def deep(path: Path) -> None:
    Image.fromarray(np.linspace(0, 65535, 1200).reshape(30, 40).astype(np.uint16)).save(path)


def moving(path: Path) -> None:
    gradient().save(path, save_all=True, append_images=[Image.new("RGB", (40, 30), "red")])


WORKS: dict[str, tuple[str, Callable[[Path], None], tuple[int, int], str]] = {
    "cmyk": ("a.jpg", lambda p: gradient().convert("CMYK").save(p), (40, 30), ""),
    "16 bit": ("a.png", deep, (40, 30), "16"),
    "palette": ("a.png", lambda p: gradient().quantize(16).save(p), (40, 30), ""),
    "rgba": ("a.png", lambda p: gradient().convert("RGBA").save(p), (40, 30), ""),
    "turned": ("a.jpg", turned, (30, 40), "EXIF"),
    "animated": ("a.gif", moving, (40, 30), "first"),
    "1 x 1": ("a.png", lambda p: gradient(1, 1).save(p), (1, 1), ""),
    "1 x 5000": ("a.png", lambda p: gradient(1, 5000).save(p), (1, 5000), ""),
}


@pytest.mark.parametrize("name", WORKS)
def test_pictures_that_arrive_in_real_life(folder: Path, name: str) -> None:
    file, make, (width, height), said = WORKS[name]
    make(folder / file)
    done = CliRunner().invoke(
        app, ["run", *CELL, "--image", file, "--text", "1,2", "--json", "--out", "out"]
    )
    assert done.exit_code == 0, done.output
    (answer,) = [json.loads(line) for line in done.stdout.splitlines()]
    ((left, top, right, bottom),) = answer["boxes"]
    assert 0 <= left < right <= width
    assert 0 <= top < bottom <= height
    assert said in done.stderr
    assert Path("out", answer["overlay"]).exists()


def cut(path: Path) -> None:
    gradient(200, 200).save(path)
    path.write_bytes(path.read_bytes()[:-60])


FAILS: dict[str, tuple[list[str], Callable[[Path], object], str]] = {
    "no such file": (["--image", "no.png"], lambda _: None, "no such file"),
    "not a picture": (["--image", "x.png"], lambda p: p.write_text("x"), "picture"),
    "truncated": (["--image", "x.png"], cut, "x.png"),
    "empty file": (["--image", "x.png"], lambda p: p.write_bytes(b""), "x.png"),
    "too large": (
        ["--image", "x.png", "--max-pixels", "100"],
        lambda p: gradient().save(p),
        "--max-pixels",
    ),
    "no picture": ([], lambda _: None, "--image"),
    "no text": (["--image", "a.png", "--text", " "], lambda _: None, "empty"),
    "heads": (["--image", "a.png", "--heads", "L9H0"], lambda _: None, "out of range"),
    "adapter": (["--image", "a.png", "--adapter", "cel"], lambda _: None, "did you mean cell"),
}


@pytest.mark.parametrize("name", FAILS)
def test_mistakes_exit_with_2_in_one_line_and_leave_nothing(folder: Path, name: str) -> None:
    arguments, make, words = FAILS[name]
    make(folder / "x.png")
    text = [] if "--text" in arguments else ["--text", "1,2"]
    done = CliRunner().invoke(app, ["run", *CELL, "--out", "out", *arguments, *text])
    assert done.exit_code == 2, done.output
    errors = [line for line in done.stderr.splitlines() if line.strip()]
    assert len(errors) == 1, done.stderr
    assert errors[0].startswith("error: ")
    assert words in errors[0]
    assert not Path("out").exists()


def test_the_limit_of_64_megapixels_holds_without_being_asked_for(folder: Path) -> None:
    Image.new("1", (8200, 8000)).save("large.png")
    done = CliRunner().invoke(app, ["run", *CELL, "--image", "large.png", "--text", "1,2"])
    assert done.exit_code == 2
    assert "--max-pixels" in done.stderr
