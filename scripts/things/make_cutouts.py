"""Make the cut-outs of the data set `things`: `python scripts/things/make_cutouts.py FONT.ttf`.

FONT.ttf is NotoColorEmoji.ttf of Debian's fonts-noto-color-emoji.
"""

import sys

from PIL import Image, ImageDraw, ImageFont

from vg_engine.plugins.datasets.things import files

SIZE = 109  # the only size that the font's pictures have


def main(font_file: str) -> None:
    """Render every noun's emoji, cut to its edges."""
    font = ImageFont.truetype(font_file, SIZE)
    for noun, entry in files.listed()["cutouts"].items():
        canvas = Image.new("RGBA", (2 * SIZE, 2 * SIZE))
        symbol = chr(int(str(entry["emoji"]), 16))
        ImageDraw.Draw(canvas).text((SIZE // 2, SIZE // 2), symbol, font=font, embedded_color=True)
        drawn = canvas.crop(canvas.getbbox())
        drawn.save(files.FOLDER / "cutouts" / f"{noun}.png", optimize=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
