"""Hard case 2: Qwen2.5-VL through the hooks: positions of three axes, grids of any size."""

from dataclasses import replace
from types import MappingProxyType

import numpy as np
import pytest

from vg_engine.model_adapters.families.qwen2_5_vl import Qwen25VLAdapter
from vg_engine.model_adapters.shared.huggingface import VICUNA
from vg_engine.model_adapters.shared.positions import counted
from vg_engine.testing import noise

TOKEN = 28
EXPRESSIONS = ("the cup", "a dog that looks to the far left", "it")
SIZES = ((168, 112), (84, 196), (56, 56))


@pytest.fixture(scope="module")
def case(tiny_qwen, case_of):
    return case_of(Qwen25VLAdapter, tiny_qwen)


def prompt_of(expression):
    return f"{VICUNA} <|vision_start|><|image_pad|><|vision_end|>\n{expression}."


def test_maps_equal_eager_attention(case):
    """The oracle leaves all positions to the model."""
    token = case.engine.model.processor.image_token_id
    prompts = {text: prompt_of(text) for text in EXPRESSIONS}
    found = []
    for size in SIZES:
        shape = (-1, size[1] // TOKEN, size[0] // TOKEN)

        def read(rows, ids):
            seen = rows[:, ids == token]
            return seen.reshape(shape), seen  # noqa: B023 - called in this round

        found.append(case.check(noise(size, 5), prompts, read))
    worst, sharpest = np.max(found, axis=0)
    print(f"qwen2.5-vl: largest error {worst:.1e}, sharpest {sharpest:.2f}")
    assert worst < 1e-5
    assert sharpest > 0.8


def test_positions_are_those_of_three_axes(case):
    """A picture's tokens share one time and count rows and columns; text goes on behind both."""
    inputs = case.prepared([noise(size) for size in SIZES], list(enumerate(EXPRESSIONS)))
    for query, (view,) in zip(inputs.queries, case.located(inputs), strict=True):
        where = inputs.tensors["position_ids"][:, query.sequence].numpy()
        start = where[0, view.positions[0, 0] - 1] + 1
        assert view.shape == (SIZES[query.scene][1] // TOKEN, SIZES[query.scene][0] // TOKEN)
        for (row, col), position in np.ndenumerate(view.positions):
            assert where[:, position].tolist() == [start, start + row, start + col]
        behind = where[:, view.positions[-1, -1] + 1]
        assert behind.tolist() == [start + max(view.shape)] * 3
    # Positions are handed over: nothing of this picture is kept for the next one.
    case.rows(inputs)
    assert case.engine.model.module.base_model.rope_deltas is None


def test_positions_of_one_axis_would_be_noticed(case):
    """With counted positions the rows are others: the comparison above has teeth."""
    picture = noise(SIZES[0], 5)
    inputs = case.prepared([picture], [(0, "the cup")])
    tensors = {**inputs.tensors, "position_ids": counted(inputs.tensors["attention_mask"])}
    (flat,) = case.rows(replace(inputs, tensors=MappingProxyType(tensors)))
    assert np.abs(flat[:, 0] - case.eager(picture, prompt_of("the cup"))).max() > 0.1
