import contextlib
import io
import re
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from vg_engine.core.errors import PictureError
from vg_engine.plugins.pictures import FORMATS, PILLOW_LIMIT, decode

RED, WHITE, BLACK = (255, 0, 0), (255, 255, 255), (0, 0, 0)


def saved(image, form="PNG", **options):
    buffer = io.BytesIO()
    image.save(buffer, form, **options)
    return buffer.getvalue()


def pixel(picture, x, y):
    return tuple(picture.pixels[y, x].tolist())


def gradient():
    x, y = np.meshgrid(np.linspace(0, 255, 40), np.linspace(0, 255, 30))
    return Image.fromarray(np.stack([x, y, 255 - x], axis=-1).astype(np.uint8))


def refusal(given, **options):
    with pytest.raises(PictureError) as raised:
        decode(given, **options)
    assert "\n" not in str(raised.value)
    assert len(str(raised.value)) < 400
    return str(raised.value)


@pytest.mark.parametrize("form", FORMATS)
def test_every_allowed_format_is_read(form, tmp_path):
    data = saved(gradient(), form)
    path = tmp_path / f"picture.{form.lower()}"
    path.write_bytes(data)
    for given in (path, str(path), data, bytearray(data), memoryview(data)):
        picture = decode(given)
        assert picture.size == (40, 30)
        assert abs(pixel(picture, 39, 0)[0] - 255) < 40
        assert not picture.pixels.flags.writeable
    assert decode(path).source == str(path)


def test_a_pil_image_and_an_array_are_taken_as_they_are():
    image = gradient()
    picture = decode(image)
    assert np.array_equal(picture.pixels, np.asarray(image))
    array = np.array(image)
    again = decode(array)
    array[:] = 0
    assert np.array_equal(again.pixels, picture.pixels)
    assert decode(picture) is picture
    assert image.mode == "RGB"


def test_orientations_are_turned_upright():
    image = Image.new("RGB", (30, 20), WHITE)
    image.paste(RED, (0, 0, 10, 10))  # upper left in the file
    corners = [(0, 0), (29, 0), (29, 19), (0, 19), (0, 0), (19, 0), (19, 29), (0, 29)]
    for orientation, corner in enumerate(corners, 1):
        exif = Image.Exif()
        exif[0x0112] = orientation
        for form in ("PNG", "TIFF", "WEBP", "JPEG"):
            options = {"lossless": True} if form == "WEBP" else {}
            picture = decode(saved(image, form, exif=exif, **options))
            assert picture.size == ((30, 20) if orientation < 5 else (20, 30)), (form, orientation)
            assert pixel(picture, *corner)[1] < 60, (form, orientation)
            assert ("turned upright" in str(picture.notes)) == (orientation > 1)


@pytest.mark.parametrize("form", ["PNG", "TIFF"])
def test_16_bit_grey_is_scaled_and_not_clipped(form):
    values = np.linspace(0, 65535, 256).astype(np.uint16).reshape(16, 16)
    picture = decode(saved(Image.fromarray(values), form))
    assert len(np.unique(picture.pixels)) == 256
    assert (pixel(picture, 0, 0), pixel(picture, 15, 15)) == (BLACK, WHITE)
    assert picture.notes == ("16 bits per pixel scaled to 8",)


def test_wide_and_floating_values_are_scaled():
    wide = Image.fromarray(np.array([[-100_000, 0], [50_000, 100_000]], dtype=np.int32))
    assert [pixel(decode(wide), 0, 0), pixel(decode(wide), 1, 1)] == [BLACK, WHITE]
    unit = Image.fromarray(np.array([[0.0, 0.5], [np.nan, 1.0]], dtype=np.float32))
    assert pixel(decode(saved(unit, "TIFF")), 1, 0) == (128, 128, 128)
    flat = Image.fromarray(np.full((2, 2), 7.0, dtype=np.float32))
    assert pixel(decode(flat), 0, 0) == BLACK


def test_transparency_is_laid_on_white():
    rgba = Image.new("RGBA", (4, 4), (0, 0, 0, 0))
    rgba.paste((255, 0, 0, 255), (0, 0, 2, 4))
    grey = Image.new("LA", (4, 4), (0, 0))
    palette = Image.new("P", (4, 4), 0)
    palette.putpalette([0, 0, 0, 255, 0, 0])
    palette.paste(1, (0, 0, 2, 4))
    files = {
        "RGBA": saved(rgba),
        "WEBP": saved(rgba, "WEBP", lossless=True),
        "LA": saved(grey),
        "P": saved(palette, transparency=0),
        "P bytes": saved(palette, transparency=b"\x00\xff"),
        "GIF": saved(palette, "GIF", transparency=0),
        "RGB key": saved(Image.new("RGB", (4, 4), (9, 9, 9)), transparency=(9, 9, 9)),
        "RGBa": rgba.convert("RGBa"),
        "La": grey.convert("La"),
    }
    for name, file in files.items():
        picture = decode(file)
        assert pixel(picture, 3, 3) == WHITE, name
        assert "transparency laid on white" in picture.notes, name
        assert pixel(picture, 0, 0) == RED or name in ("LA", "La", "RGB key"), name
    opaque = decode(saved(Image.new("RGBA", (3, 3), (1, 2, 99, 255))))
    assert opaque.notes == ()
    assert pixel(opaque, 1, 1) == (1, 2, 99)


@pytest.mark.parametrize(
    ("mode", "value", "colour"),
    [
        ("1", 1, WHITE),
        ("1", 0, BLACK),
        ("L", 77, (77, 77, 77)),
        ("HSV", (0, 255, 255), RED),
        ("YCbCr", (255, 128, 128), WHITE),
    ],
)
def test_other_modes_become_rgb(mode, value, colour):
    assert pixel(decode(Image.new(mode, (3, 3), value)), 1, 1) == colour


def test_cmyk_and_palette_become_rgb():
    cmyk = decode(saved(Image.new("CMYK", (16, 16), (0, 255, 255, 0)), "JPEG", quality=95))
    red, green, blue = pixel(cmyk, 8, 8)
    assert red > 230
    assert max(green, blue) < 30
    assert cmyk.notes == ("CMYK turned into RGB",)
    quantised = decode(saved(gradient().quantize(64)))
    assert np.abs(quantised.pixels.astype(int) - np.asarray(gradient())).mean() < 12


@pytest.mark.parametrize("form", ["GIF", "WEBP", "TIFF", "PNG"])
def test_of_an_animation_the_first_frame_is_taken_and_said(form):
    first, *others = [Image.new("RGB", (8, 8), colour) for colour in (RED, BLACK, WHITE)]
    picture = decode(saved(first, form, save_all=True, append_images=others))
    assert pixel(picture, 4, 4)[0] > 200
    assert pixel(picture, 4, 4)[1] < 60
    assert "of several frames the first frame is used" in picture.notes


def test_what_is_no_file_of_a_known_format_is_refused(tmp_path):
    (tmp_path / "empty.png").touch()
    (tmp_path / "text.jpg").write_text("no picture")
    cases = {
        tmp_path / "none.jpg": "no such file; check the path",
        tmp_path: "is a folder; name a picture in it",
        tmp_path / "empty.png": "empty .0 bytes.",
        tmp_path / "text.jpg": "not a picture that can be read; convert",
        "": "path is empty",
        b"": "empty .0 bytes.",
        "a\0b.png": "cannot be read|no such file",
        "x" * 5000: "cannot be read|no such file",
        "https://example.org/cat.jpg": "save it to a file first",
        "/dev/null": "not a regular file",
    }
    for form in ("PPM", "ICO", "TGA", "PCX", "EPS"):
        cases[saved(gradient(), form)] = "convert it to one of JPEG, PNG"
    for given in (None, 3, 2.5):
        cases[given] = f"of type {type(given).__name__} cannot be used"
    for given, words in cases.items():
        assert re.search(words, refusal(given)), given
    assert "of type list cannot be used" in refusal(["a.png"])


@pytest.mark.parametrize("form", FORMATS)
def test_truncated_files_are_refused(form):
    noise = np.random.default_rng(0).integers(0, 255, (64, 64, 3)).astype(np.uint8)
    data = saved(Image.fromarray(noise), form)
    for share in (0.02, 0.3, 0.7, 0.95):
        refusal(data[: int(len(data) * share)])


def test_damaged_files_never_raise_anything_else():
    generator = np.random.default_rng(1)
    for whole in [saved(gradient(), form) for form in FORMATS for _ in range(60)]:
        data = bytearray(whole)
        for at in generator.integers(0, len(data), 6):
            data[at] = int(generator.integers(0, 256))
        with contextlib.suppress(PictureError):
            decode(bytes(data))


def test_the_size_is_checked_before_decoding():
    small = saved(Image.new("RGB", (100, 100)))
    description = "100 x 100: 10,000 pixels, more than the 9,999"
    assert description in refusal(small, max_pixels=9_999)
    assert decode(small, max_pixels=10_000).size == (100, 100)
    for size in ((1, 1), (1, 5000), (5000, 1)):
        assert decode(saved(Image.new("RGB", size, RED))).size == size
    # A header of 20,000 x 20,000 with nothing behind it: 1.2 GB, if it were decoded.
    for side, words in ((9_000, "raise --max-pixels"), (20_000, "more than 178,956,970 pixels")):
        bomb = bytearray(saved(Image.new("RGB", (1, 1)), "BMP"))
        bomb[18:22] = bomb[22:26] = side.to_bytes(4, "little")
        assert words in refusal(bytes(bomb))
    assert "raise --max-pixels" in refusal(Image.new("1", (9000, 9000)))
    wide = np.broadcast_to(np.zeros(3, np.uint8), (9000, 9000, 3))
    assert "raise --max-pixels" in refusal(wide)
    assert PILLOW_LIMIT > 64_000_000
    # Pillow's own warning of large pictures would be an error here.
    large = saved(Image.new("1", (9500, 9500)))
    assert decode(large, max_pixels=100_000_000).size == (9500, 9500)


@pytest.mark.parametrize(
    ("shape", "dtype", "advice"),
    [
        ((4, 4), np.uint8, "np.stack"),
        ((4, 4, 4), np.uint8, "fourth channel"),
        ((3, 40, 40), np.uint8, "transpose"),
        ((4, 4, 3), np.float32, "astype"),
        ((0, 4, 3), np.uint8, "no pixels"),
        ((1, 4, 4, 3), np.uint8, "one picture at a time"),
    ],
)
def test_wrong_arrays_are_told_apart(shape, dtype, advice):
    assert advice in refusal(np.zeros(shape, dtype))


def test_corrupt_exif_does_not_stop_nor_do_threads_disturb_each_other():
    broken = b"Exif\x00\x00MM\x00*\x00\x00\x00\x08\x00\xff\x01\x12"
    files = [saved(gradient(), "JPEG", exif=broken), *[saved(gradient(), "PNG")] * 40]
    with ThreadPoolExecutor(4) as pool:
        assert {picture.size for picture in pool.map(decode, files)} == {(40, 30)}


@pytest.mark.parametrize(("bits", "noted"), [(16, False), (12, True), (10, True)])
def test_few_bits_in_many_are_noted(tmp_path, bits, noted):
    grey = np.arange(256).reshape(16, 16) * ((1 << bits) - 1) // 255
    file = tmp_path / "deep.png"
    Image.fromarray(grey.astype(np.uint16)).save(file)
    assert any("nearly black" in note for note in decode(file).notes) == noted
    assert any("nearly black" in note for note in decode(np.ones((3, 3, 3), np.uint8)).notes)


def test_an_array_that_is_filled_again_is_another_picture():
    buffer = np.zeros((4, 4, 3), np.uint8)
    first = decode(buffer)
    buffer[:] = 200
    assert not first.pixels.any()


def test_a_file_open_for_reading_is_read_from_its_start(tmp_path: Path) -> None:
    Image.new("RGB", (5, 4), "red").save(tmp_path / "a.png")
    buffer = io.BytesIO((tmp_path / "a.png").read_bytes())
    for _ in range(2):
        assert decode(buffer).size == (5, 4)
    with (tmp_path / "a.png").open("rb") as file:
        assert decode(file).size == (5, 4)
    with pytest.raises(PictureError, match="in binary mode"):
        decode(io.StringIO("text"))
