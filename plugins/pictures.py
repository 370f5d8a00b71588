"""Decode pictures: paths, bytes, PIL images and uint8 RGB arrays become an upright `Picture`.

Every picture becomes upright RGB (16 bits are scaled, transparency is blended with white, EXIF
orientation is applied), and its notes list the conversions. Unusable input is refused before it is
decoded, in one line.
"""

from __future__ import annotations

import io
import os
import re
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from vg_engine.core.contract.picture import Picture
from vg_engine.core.errors import PictureError

FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "TIFF", "GIF")
MAX_PIXELS = 64_000_000
# Pillow itself refuses larger headers. Its limit is global, so it is left unchanged.
PILLOW_LIMIT = 2 * (Image.MAX_IMAGE_PIXELS or MAX_PIXELS)
_EXIF_ORIENTATION = 0x0112
_DEEP = ("I;16", "I;16B", "I;16L", "I;16N")
_ALPHA = ("RGBA", "LA", "PA", "RGBa", "La")
_OPAQUE, _DEEPEST = 255, 65535  # the largest values of 8 and of 16 bits
_DARK = 32  # brightest value of a picture that is nearly black
_REMEMBERED = 1 << 26  # largest size in bytes of a file that is kept for comparison
_SHOWN = 80  # characters of a source in messages
# Pillow reports through warnings, whose filters belong to the whole process.
_WARNINGS = threading.Lock()


def decode(image: object, *, max_pixels: int = MAX_PIXELS) -> Picture:
    """Make an upright RGB picture.

    Args:
        image: a path, the bytes of a file, a file open for reading (read from its start), a PIL
            image, a uint8 array (height, width, RGB), or a `Picture`.
        max_pixels: larger pictures are refused before they are decoded.

    Returns:
        The picture, with notes on its conversions.

    Raises:
        PictureError: the picture is missing, empty, truncated, too large, in a refused format, or
            not a picture.

    >>> decode(np.zeros((2, 3, 3), np.uint8)).size
    (3, 2)
    """
    match image:
        case Picture():
            _check_size(image.source, image.size, max_pixels)
            return image
        case np.ndarray():
            return _from_array(image, max_pixels)
        case Image.Image():
            return _upright(image, _name(image), max_pixels)
        case bytes() | bytearray() | memoryview():
            return _from_bytes(bytes(image), f"{len(image)} bytes", max_pixels)
        case str() | os.PathLike():
            return _from_path(os.fspath(image), max_pixels)
        case io.RawIOBase() | io.BufferedIOBase():
            if image.seekable():
                image.seek(0)
            return decode(image.read(), max_pixels=max_pixels)
    raise PictureError(
        f"a picture of type {type(image).__name__} cannot be used; give a path, bytes, a file "
        "open for reading in binary mode, a PIL image or a uint8 RGB array"
    )


class Decoder:
    """A decoder like `decode` that does not decode its last file a second time.

    Files are compared by content: an overwritten file is decoded again.

    Args:
        max_pixels: larger pictures are refused.
    """

    def __init__(self, max_pixels: int = MAX_PIXELS) -> None:
        self._max_pixels = max_pixels
        self._last: tuple[str, bytes, Picture] | None = None

    def __call__(self, image: object) -> Picture:
        """Make an upright RGB picture; arguments and errors as in `decode`."""
        data = self._bytes(image)
        if data is None:
            return decode(image, max_pixels=self._max_pixels)
        source, last = os.fsdecode(image), self._last  # type: ignore[arg-type] # a path: it was read
        if last is not None and last[:2] == (source, data):
            return last[2]
        picture = _from_bytes(data, source, self._max_pixels)
        self._last = (source, data, picture)
        return picture

    @staticmethod
    def _bytes(image: object) -> bytes | None:
        """Read a file of ordinary size; None where `decode` shall report the error."""
        if not isinstance(image, str | os.PathLike):
            return None
        try:
            file = Path(image)
            if file.is_file() and 0 < file.stat().st_size <= _REMEMBERED:
                return file.read_bytes()
        except (OSError, ValueError):
            return None
        return None


def _from_array(array: np.ndarray, max_pixels: int) -> Picture:
    shape = " x ".join(map(str, array.shape))
    source = f"array {shape}"
    match array.shape:
        case (height, width, 3) if array.dtype == np.uint8:
            _check_size(source, (width, height), max_pixels)
            # A copy: cameras fill one buffer again and again.
            pixels = np.array(array, order="C")
            return Picture(pixels, source, tuple(_darkness(pixels)))
        case (_, _):
            advice = "a grey picture needs np.stack([grey] * 3, axis=-1)"
        case (_, _, 4):
            advice = "drop or blend the fourth channel, or hand over a PIL image"
        case (3, _, _):
            advice = "move the channels last: array.transpose(1, 2, 0)"
        case (_, _, 3):
            advice = "scale it to 0..255 and use .astype(np.uint8)"
        case _:
            advice = "hand over one picture at a time"
    raise PictureError(
        f"an array must be uint8 of shape height x width x 3 (RGB), "
        f"got {array.dtype} {shape}; {advice}"
    )


def _from_path(path: str | bytes, max_pixels: int) -> Picture:
    source = os.fsdecode(path)
    shown = _shorten(source)
    if not source:
        raise PictureError("the picture's path is empty; name a file")
    if source.startswith(("http://", "https://", "s3://", "data:")):
        raise PictureError(f"{shown}: pictures are not fetched; save it to a file first")
    file = Path(source)
    try:
        if file.is_dir():
            raise PictureError(f"{shown} is a folder; name a picture in it")
        if not file.exists():
            raise PictureError(f"{shown}: no such file; check the path (here is {Path.cwd()})")
        if not file.is_file():
            raise PictureError(f"{shown} is not a regular file; save the picture to a file first")
        if not file.stat().st_size:
            raise PictureError(f"{shown} is empty (0 bytes); save or download it again")
        with file.open("rb") as opened:
            return _from_file(opened, source, max_pixels)
    except (OSError, ValueError) as error:  # no permission, a NUL byte or a name too long
        cause = getattr(error, "strerror", None) or str(error)
        raise PictureError(
            f"{shown} cannot be read: {cause}; check the path and its permissions"
        ) from error


def _from_bytes(data: bytes, source: str, max_pixels: int) -> Picture:
    if not data:
        raise PictureError("the picture is empty (0 bytes); save or download it again")
    return _from_file(io.BytesIO(data), source, max_pixels)


def _from_file(file: io.BufferedReader | io.BytesIO, source: str, max_pixels: int) -> Picture:
    with _clean(source):
        with _muted() as warned:
            opened = Image.open(file, formats=FORMATS)
        with opened:
            return _upright(opened, source, max_pixels, tuple(warned))


@contextmanager
def _clean(source: str) -> Iterator[None]:
    """Turn whatever a decoder raises into one line."""
    shown = _shorten(source)
    try:
        yield
    except PictureError:
        raise
    except UnidentifiedImageError as error:
        raise PictureError(
            f"{shown} is not a picture that can be read; convert it to one of {', '.join(FORMATS)}"
        ) from error
    except Image.DecompressionBombError as error:
        raise PictureError(
            f"{shown} has more than {PILLOW_LIMIT:,} pixels; make it smaller"
        ) from error
    except MemoryError as error:
        raise PictureError(f"{shown} does not fit into memory; make it smaller") from error
    # For broken files decoders raise nearly anything: OSError, SyntaxError, struct.error...
    except Exception as error:
        cause = " ".join(str(error).split()) or type(error).__name__
        raise PictureError(
            f"{shown} is truncated or damaged ({cause}); save or download it again"
        ) from error


@contextmanager
def _muted() -> Iterator[list[str]]:
    """Collect Pillow's warnings as notes instead of emitting them."""
    warned: list[str] = []
    with _WARNINGS, warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            yield warned
        finally:
            warned += dict.fromkeys(
                f"the file is not quite in order: {' '.join(str(warning.message).split())}"
                for warning in caught
                if not issubclass(warning.category, Image.DecompressionBombWarning)
            )


def _upright(
    image: Image.Image, source: str, max_pixels: int, warned: tuple[str, ...] = ()
) -> Picture:
    """Check the size, then decode, turn and convert."""
    _check_size(source, image.size, max_pixels)
    with _clean(source):
        notes = list(warned)
        # A file may hold more frames of other sizes: only the current frame is read.
        if getattr(image, "is_animated", False):
            frame = image.tell()
            which = "the first frame is" if frame == 0 else f"frame {frame} is"
            notes.append(f"of several frames {which} used")
        if any(
            re.match("(RGB|LA).*;16", str(part[3]))
            for part in getattr(image, "tile", ())
            if len(part) > 3
        ):
            notes.append("16 bits per channel: the upper 8 are used")
        with _muted() as later:
            turned = image.getexif().get(_EXIF_ORIENTATION, 1)
        image.load()  # the slow part: other threads may decode meanwhile
        with _muted() as last:
            upright = ImageOps.exif_transpose(image)
        notes += later + last
        if turned in range(2, 9):
            notes.append("turned upright as its EXIF orientation says")
        rgb = _rgb(upright, notes)
        _check_size(source, rgb.size, max_pixels)
        pixels = np.array(rgb, dtype=np.uint8)
        notes += _darkness(pixels)
        return Picture(pixels, source, tuple(dict.fromkeys(notes)))


def _darkness(pixels: np.ndarray) -> list[str]:
    """Note a picture that is nearly black, as 12 bits are that were saved as 16."""
    brightest = int(pixels.max(initial=0))
    if brightest >= _DARK or not brightest:  # black pictures are black
        return []
    return [f"nearly black: its brightest value is {brightest} of 255; was it to be scaled first?"]


def _rgb(image: Image.Image, notes: list[str]) -> Image.Image:
    if image.mode == "RGB" and "transparency" not in image.info:
        return image
    if image.mode in _DEEP or image.mode in ("I", "F"):
        return _scaled(image, notes)
    if image.mode in _ALPHA or "transparency" in image.info:
        layer = image.convert("LA" if image.mode == "La" else "RGBA").convert("RGBA")
        lowest, _ = layer.getchannel("A").getextrema()
        if lowest == _OPAQUE:
            return layer.convert("RGB")
        notes.append("transparency laid on white")
        paper = Image.new("RGBA", layer.size, "white")
        paper.alpha_composite(layer)
        return paper.convert("RGB")
    if image.mode == "CMYK":
        notes.append("CMYK turned into RGB")
    return image.convert("RGB")


def _scaled(image: Image.Image, notes: list[str]) -> Image.Image:
    """Scale deep grey values to 8 bits: 16 bits by their full range, others by their extremes."""
    values = np.nan_to_num(np.asarray(image).astype(np.float64), posinf=0.0, neginf=0.0)
    low, high = float(values.min()), float(values.max())
    if image.mode != "F" and low >= 0 and high <= _DEEPEST:
        grey = values * (_OPAQUE / _DEEPEST)
        notes.append("16 bits per pixel scaled to 8")
    elif image.mode == "F" and low >= 0 and high <= 1:
        grey = values * _OPAQUE
        notes.append("values from 0 to 1 scaled to 8 bits")
    else:
        grey = (values - low) * (_OPAQUE / ((high - low) or 1.0))
        notes.append(f"values from {low:g} to {high:g} scaled to 8 bits")
    return Image.fromarray(np.rint(grey).astype(np.uint8)).convert("RGB")


def _check_size(source: str, size: tuple[int, int], max_pixels: int) -> None:
    width, height = size
    if not width or not height:
        raise PictureError(f"{_shorten(source)} has no pixels ({width} x {height})")
    if width * height > max_pixels:
        raise PictureError(
            f"{_shorten(source)} is {width} x {height}: {width * height:,} pixels, more than the "
            f"{max_pixels:,} allowed; make it smaller or raise --max-pixels"
        )


def _name(image: Image.Image) -> str:
    return str(getattr(image, "filename", "")) or f"PIL image {image.width} x {image.height}"


def _shorten(source: str) -> str:
    clean = "".join(c if c.isprintable() else "?" for c in source)
    return clean if len(clean) <= _SHOWN else f"...{clean[-_SHOWN:]}"
