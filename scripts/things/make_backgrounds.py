"""Make the backgrounds of the data set `things` from the photographs that its list names.

`python scripts/things/make_backgrounds.py scikit-image=FOLDER wallpapers=FOLDER`: skimage/data of
the installed scikit-image, and the backgrounds of Debian's lomiri-wallpapers-16.04.
"""

import sys
from pathlib import Path

from PIL import Image, ImageOps

from vg_engine.plugins.datasets.things import files

LONGEST = 800
QUALITY = 84


def main(*named: str) -> None:
    """Crop, tint and reduce every photograph."""
    folders = dict(name.split("=", 1) for name in named)
    for name, entry in files.listed()["backgrounds"].items():
        if "picture" not in entry:
            continue  # it is drawn by code
        with Image.open(Path(folders[entry["source"]]) / entry["picture"]) as photograph:
            picture = photograph.crop(entry.get("crop", (0, 0, *photograph.size)))
        if "tint" in entry:
            picture = ImageOps.colorize(picture.convert("L"), "black", tuple(entry["tint"]))
        picture = picture.convert("RGB")
        picture.thumbnail((LONGEST, LONGEST))
        target = files.FOLDER / "backgrounds" / f"{name}.webp"
        picture.save(target, quality=QUALITY, method=6, exif=b"", icc_profile=None)


if __name__ == "__main__":
    main(*sys.argv[1:])
