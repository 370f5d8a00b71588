"""Pictures that must work, through the command line."""

import json
from pathlib import Path
from typing import Any

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
    asked = ["run", *CELL, "--image", file, "--text", "1,2", "--json", "--out", "out"]
    done = CliRunner().invoke(app, asked)
    assert done.exit_code == 0, done.output
    answer = json.loads(done.stdout)
    ((left, top, right, bottom),) = answer["boxes"]
    assert 0 <= left < right <= size[0]
    assert 0 <= top < bottom <= size[1]
    assert words in done.stderr
    assert Path("out", answer["overlay"]).exists()
