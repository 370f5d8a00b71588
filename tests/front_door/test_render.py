from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

import vg_engine
from vg_engine import InputError, Picture, draw, picture_text, sheet
from vg_engine.render import LARGEST, SMALLEST


def grounded(width: int, height: int, text: str = "1,2") -> tuple[vg_engine.Grounding, Picture]:
    picture = Picture(np.full((height, width, 3), 90, np.uint8))
    with vg_engine.load("cells", adapter="cell", heads="L2H1") as engine:
        return engine.ground(picture, text), picture


@pytest.mark.parametrize(
    ("size", "drawn"),
    [
        ((60, 40), (SMALLEST, 427)),
        ((800, 600), (800, 600)),
        ((4000, 1000), (LARGEST, 400)),
        ((1, 1), (SMALLEST, SMALLEST)),
        ((1, 5000), (8, LARGEST)),
        ((3000, 2), (LARGEST, 8)),
    ],
)
def test_pictures_come_out_at_a_legible_size(size: tuple[int, int], drawn: tuple[int, int]) -> None:
    image = draw(*grounded(*size))
    assert image.mode == "RGB"
    assert image.width == max(drawn[0], 480)
    assert drawn[1] + 40 < image.height < drawn[1] + 400


def test_the_answer_is_seen_and_the_rest_is_left_alone() -> None:
    answer, picture = grounded(600, 600, "1,4")
    image = np.asarray(draw(answer, picture)).astype(int)
    x, y = (round(value * 640 / 600) for value in answer.point)
    assert np.abs(image[y, x] - 90).max() > 60  # the dot
    assert np.abs(image[600:630, 20:40] - 90).max() < 12  # a far corner
    assert answer.box is not None
    left, top, right, bottom = (round(v * 640 / 600) for v in answer.box)
    for x, y in ((left, (top + bottom) // 2), ((left + right) // 2, min(bottom, 638))):
        red, green, _ = image[max(y, 2), max(x, 2)]
        assert green > red + 60, "the box has its colour"


def test_drawing_changes_nothing() -> None:
    answer, picture = grounded(50, 50)
    before = picture.pixels.copy()
    first = np.asarray(draw(answer, picture))
    assert np.array_equal(first, np.asarray(draw(answer, picture)))
    assert np.array_equal(picture.pixels, before)
    nothing = replace(answer, presence=0.0, threshold=0.5)
    assert isinstance(draw(nothing, picture), Image.Image)


def test_any_form_of_the_picture_can_be_drawn_on() -> None:
    answer, picture = grounded(50, 50)
    shown = [picture, picture.pixels, Image.fromarray(picture.pixels)]
    first, *others = [draw(answer, form).tobytes() for form in shown]
    assert [first, first] == others
    assert sheet([answer], shown[1]).tobytes() == sheet([answer], picture).tobytes()


def test_another_picture_and_a_sheet_of_nothing_are_refused() -> None:
    answer, _ = grounded(50, 50)
    other = Picture(np.zeros((4, 4, 3), np.uint8))
    with pytest.raises(InputError, match="draw it on the picture that was grounded"):
        draw(answer, other)
    with pytest.raises(InputError, match="at least one grounding"):
        sheet([], other)


@pytest.mark.parametrize("count", [1, 2, 3, 4, 7])
def test_sheets_hold_all_answers(count: int) -> None:
    answer, picture = grounded(100, 80)
    image = sheet([answer] * count, picture)
    one = sheet([answer], picture)
    assert image.width * image.height >= count * (one.width - 24) * (one.height - 24)
    assert image.width <= 3 * 720 + 4 * 12
    assert sheet([answer] * count, picture, columns=1).width == one.width


MIXED, ARABIC = "红色的杯子 на столе", "مرحبا"


@pytest.mark.parametrize(
    "text",
    ["the cup", "word " * 200, "x" * 3000, MIXED, "a\tb\nc", "🚀" * 40, ARABIC, "é ü ß"],
    ids=("plain", "many", "long", "mixed", "control", "emoji", "arabic", "accents"),
)
def test_any_text_fits_its_lines(text: str) -> None:
    font = picture_text.font_for(text, 18)
    lines = picture_text.wrap(text, font, 400)
    assert 1 <= len(lines) <= 4
    assert all(font.getlength(line) <= 400 for line in lines)
    assert all(line.isprintable() for line in lines)


def test_what_no_font_has_is_escaped() -> None:
    own = picture_text.font_for("", 18)
    assert picture_text.legible("a\U0010fffdb\x07", own) == r"a\U0010fffdb\x07"
    assert picture_text.wrap("one two", own, 10_000) == ["one two"]
    assert picture_text.wrap("word " * 200, own, 300)[-1].endswith("...")
