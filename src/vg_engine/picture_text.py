"""Text on pictures: the font that can draw it, lines that fit, escapes for what no font has."""

from __future__ import annotations

from functools import lru_cache

from PIL import ImageFont

_MOST_LINES = 4
# Tried in this order for characters that Pillow's own font lacks; a system has some or none.
_SYSTEM_FONTS = (
    "NotoSans-Regular.ttf",
    "DejaVuSans.ttf",
    "Arial.ttf",
    "NotoSansCJK-Regular.ttc",
    "PingFang.ttc",
    "msyh.ttc",
    "Arial Unicode.ttf",
)


def font_for(text: str, size: int) -> ImageFont.FreeTypeFont:
    """Pillow's own font, or the first of the system's that can draw all of a text it cannot."""
    own = _own_font(size)
    if all(_drawable(character, own) for character in set(text)):
        return own
    for name in _SYSTEM_FONTS:
        font = _system_font(name, size)
        if font is not None and all(_drawable(character, font) for character in set(text)):
            return font
    return own


def wrap(text: str, font: ImageFont.FreeTypeFont, width: int, most: int = _MOST_LINES) -> list[str]:
    """Break a text into lines of at most `width` pixels, `most` of them; the rest is left out."""
    words = [piece for word in legible(text, font).split(" ") for piece in _cut(word, font, width)]
    lines = [""]
    for word in words:
        longer = f"{lines[-1]} {word}" if lines[-1] else word
        if font.getlength(longer) <= width:
            lines[-1] = longer
        else:
            lines.append(word)
    if len(lines) > most:
        lines = lines[:most]
        while lines[-1] and font.getlength(f"{lines[-1]}...") > width:
            lines[-1] = lines[-1][:-1]
        lines[-1] += "..."
    return lines


def legible(text: str, font: ImageFont.FreeTypeFont) -> str:
    r"""The text with every character that the font cannot draw written as `\u4e2d`."""
    return "".join(
        c if _drawable(c, font) else c.encode("unicode_escape").decode("ascii") for c in text
    )


def _cut(word: str, font: ImageFont.FreeTypeFont, width: int) -> list[str]:
    """A word that is wider than a line, in pieces that are not."""
    pieces = [""]
    for character in word:
        if pieces[-1] and font.getlength(pieces[-1] + character) > width:
            pieces.append("")
        pieces[-1] += character
    return pieces


def _drawable(character: str, font: ImageFont.FreeTypeFont) -> bool:
    if character == " ":
        return True
    return character.isprintable() and _drawn(character, font) != _drawn("\U0010fffe", font)


@lru_cache(maxsize=4096)
def _drawn(character: str, font: ImageFont.FreeTypeFont) -> bytes:
    """A character's pixels; the same for all that the font lacks."""
    return bytes(font.getmask(character))


@lru_cache(maxsize=64)
def _own_font(size: int) -> ImageFont.FreeTypeFont:
    font = ImageFont.load_default(size)
    assert isinstance(font, ImageFont.FreeTypeFont), "Pillow was built without FreeType"
    return font


@lru_cache(maxsize=64)
def _system_font(name: str, size: int) -> ImageFont.FreeTypeFont | None:
    try:
        return ImageFont.truetype(name, size)
    except OSError:
        return None
