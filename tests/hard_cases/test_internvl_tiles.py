"""Hard case 1: InternVL's tiles and thumbnail through the hooks, with the shipped adapter."""

import numpy as np
import pytest

from vg_engine.model_adapters.families.internvl import InternVLAdapter
from vg_engine.model_adapters.shared.huggingface import VICUNA
from vg_engine.testing import noise
from vg_engine.testing.tiny import tiny_internvl

# Tiles of 112 pixels with 4 x 4 tokens of 28 pixels each, up to 6 tiles.
TILE, SIDE, TOKEN, MOST = 112, 4, 28, 6
EXPRESSIONS = ("the cup", "a dog that looks to the far left", "it")
# Columns and rows of tiles that the picture's shape asks for.
SHAPES = (((112, 112), (1, 1)), ((224, 112), (2, 1)), ((224, 336), (2, 3)))


@pytest.fixture(scope="module")
def case(tmp_path_factory, case_of):
    folder = tiny_internvl(tmp_path_factory.mktemp("internvl") / "tiny", max_tiles=MOST)
    call = {"crop_to_patches": True, "min_patches": 1, "max_patches": MOST}
    return case_of(InternVLAdapter, folder, call=call)


def boxes_of(tiles):
    """What each view shows of a picture that needs no resizing: tiles row by row, thumbnail."""
    cols, rows = tiles
    boxes = [
        (col * TILE, row * TILE, (col + 1) * TILE, (row + 1) * TILE)
        for row, col in np.ndindex(rows, cols)
    ]
    return [*boxes, (0, 0, cols * TILE, rows * TILE)] if len(boxes) > 1 else boxes


def test_maps_equal_eager_attention(case, by_pixels):
    token = case.engine.model.processor.tokenizer.convert_tokens_to_ids("<IMG_CONTEXT>")
    prompts = {text: f"{VICUNA} <IMG_CONTEXT>\n{text}." for text in EXPRESSIONS}
    found = []
    for size, tiles in SHAPES:
        boxes = boxes_of(tiles)

        def read(rows, ids):
            seen = rows[:, ids == token]
            parts = np.split(seen, len(boxes), axis=1)  # noqa: B023 - called in this round
            grids = [part.reshape(-1, SIDE, SIDE) for part in parts]
            shown = zip(grids, boxes, strict=True)  # noqa: B023 - the same
            return by_pixels(list(shown), size, (TOKEN, TOKEN)), seen  # noqa: B023 - the same

        found.append(case.check(noise(size, 7), prompts, read))
    worst, sharpest = np.max(found, axis=0)
    print(f"internvl: largest error {worst:.1e}, sharpest {sharpest:.2f}")
    assert worst < 1e-5
    assert sharpest > 0.8


def test_pictures_of_other_tilings_share_a_batch(case):
    """Each answer of a mixed batch is that of its picture alone."""
    pictures = [noise(size, 3) for size, _ in SHAPES]
    together = list(case.engine.ground_many((picture, "the cup") for picture in pictures))
    for picture, answer in zip(pictures, together, strict=True):
        alone = case.engine.ground(picture, "the cup")
        assert answer.soft_map.shape == alone.soft_map.shape
        assert np.abs(answer.soft_map.values - alone.soft_map.values).max() < 1e-5
