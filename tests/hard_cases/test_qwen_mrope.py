"""Hard case 2: Qwen2.5-VL through the hooks: positions of three axes, grids that pictures choose.

The adapter is what a third party would write: the family's grid. Positions of three axes are
the base's business: it asks the model.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from transformers import Qwen2_5_VLConfig, Qwen2_5_VLForConditionalGeneration, Qwen2_5_VLProcessor
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import (
    Qwen2VLImageProcessorPil,
    smart_resize,
)

from vg_engine.core.contract.inputs import AttentionRequest, Expression
from vg_engine.core.contract.model import LoadedModel
from vg_engine.core.contract.prompt import Prompt
from vg_engine.core.contract.scene import Scene
from vg_engine.core.geometry import Frame
from vg_engine.model_adapters.shared.grids import Grid
from vg_engine.model_adapters.shared.huggingface import VICUNA, HuggingFaceAdapter
from vg_engine.model_adapters.shared.loading import without_video
from vg_engine.model_adapters.shared.positions import counted
from vg_engine.testing import noise, open_adapter, paint
from vg_engine.testing.tiny import byte_tokenizer, sharpen

# A token is 2 x 2 patches of 14 pixels; the tower attends in windows of 2 x 2 tokens.
TOKEN, WINDOW = 28, 56
EXPRESSIONS = ("the cup", "a dog that looks to the far left", "it")
SIZES = ((168, 112), (84, 196), (56, 56))


class QwenAdapter(HuggingFaceAdapter):
    """Models of type `qwen2_5_vl`."""

    name: ClassVar[str] = "qwen2_5_vl"
    model_types: ClassVar[tuple[str, ...]] = ("qwen2_5_vl",)
    processor_class: ClassVar[Any] = Qwen2_5_VLProcessor
    bare: ClassVar[str] = "{system} <|vision_start|>{image}<|vision_end|>\n{text}"

    def grids(self, model: LoadedModel, frame: Frame) -> Sequence[Grid]:
        """Squashed to whole tokens, merged patches row by row."""
        images = model.processor.image_processor
        cell = images.patch_size * images.merge_size
        height, width = smart_resize(
            int(frame.height),
            int(frame.width),
            factor=cell,
            min_pixels=images.size["shortest_edge"],
            max_pixels=images.size["longest_edge"],
        )
        return [Grid(frame.resize(float(width), float(height)), height // cell, width // cell)]


def tiny_qwen(folder: Path) -> Path:
    named = ["<|vision_start|>", "<|vision_end|>", "<|image_pad|>", "<|video_pad|>"]
    tokenizer = byte_tokenizer(
        ["<|endoftext|>", *named],
        pad_token="<|endoftext|>",
        extra_special_tokens=named,
        padding_side="left",
    )
    images = Qwen2VLImageProcessorPil(
        size={"shortest_edge": TOKEN * TOKEN, "longest_edge": 64 * TOKEN * TOKEN}
    )
    ids = dict(zip(named, tokenizer.convert_tokens_to_ids(named), strict=True))
    made: Any = Qwen2_5_VLConfig
    config = made(
        text_config={
            "vocab_size": len(tokenizer),
            "hidden_size": 64,
            "intermediate_size": 128,
            "num_hidden_layers": 4,
            "num_attention_heads": 4,
            "num_key_value_heads": 2,
            "max_position_embeddings": 4096,
            "pad_token_id": tokenizer.pad_token_id,
            "bos_token_id": None,
            "eos_token_id": tokenizer.pad_token_id,
            "rope_parameters": {"rope_type": "default", "mrope_section": [2, 3, 3]},
        },
        vision_config={
            "depth": 2,
            "hidden_size": 32,
            "intermediate_size": 64,
            "num_heads": 4,
            "out_hidden_size": 64,
            "window_size": WINDOW,
            "fullatt_block_indexes": [1],
        },
        image_token_id=ids["<|image_pad|>"],
        video_token_id=ids["<|video_pad|>"],
        vision_start_token_id=ids["<|vision_start|>"],
        vision_end_token_id=ids["<|vision_end|>"],
    )
    torch.manual_seed(0)
    module: Any = Qwen2_5_VLForConditionalGeneration(config)
    sharpen(module.get_decoder())
    module.save_pretrained(folder)
    without_video(Qwen2_5_VLProcessor)(images, tokenizer).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_qwen(tmp_path_factory.mktemp("qwen") / "tiny")


@pytest.fixture(scope="module")
def case(folder: Path, case_of: Callable[..., Any]) -> Any:
    return case_of(QwenAdapter, folder)


def prompt_of(expression: str) -> str:
    return f"{VICUNA} <|vision_start|><|image_pad|><|vision_end|>\n{expression}."


def test_maps_equal_eager_attention(case: Any) -> None:
    """The oracle leaves all positions to the model."""
    token = case.engine.model.processor.image_token_id
    prompts = {text: prompt_of(text) for text in EXPRESSIONS}
    found = []
    for size in SIZES:
        shape = (-1, size[1] // TOKEN, size[0] // TOKEN)

        def read(rows: np.ndarray, ids: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
            seen = rows[:, ids == token]
            return seen.reshape(shape), seen  # noqa: B023 - called in this round

        found.append(case.check(noise(size, 5), prompts, read))
    worst, sharpest = np.max(found, axis=0)
    print(f"qwen2.5-vl: largest error {worst:.1e}, sharpest {sharpest:.2f}")
    assert worst < 1e-5
    assert sharpest > 0.8


def test_positions_are_those_of_three_axes(case: Any) -> None:
    """A picture's tokens share one time and count rows and columns; text goes on behind both."""
    hooks, model = case.engine._hooks, case.engine.model
    scenes = [Scene(noise(size)) for size in SIZES]
    asked = [Expression(i, text) for i, text in enumerate(EXPRESSIONS)]
    inputs = hooks.prepare_inputs(model, scenes, asked, Prompt())
    located = hooks.locate_image_tokens(model, inputs)
    for query, (view,) in zip(inputs.queries, located, strict=True):
        where = inputs.tensors["position_ids"][:, query.sequence].numpy()
        start = where[0, view.positions[0, 0] - 1] + 1
        assert view.shape == (SIZES[query.scene][1] // TOKEN, SIZES[query.scene][0] // TOKEN)
        for (row, col), position in np.ndenumerate(view.positions):
            assert where[:, position].tolist() == [start, start + row, start + col]
        behind = where[:, view.positions[-1, -1] + 1]
        assert behind.tolist() == [start + max(view.shape)] * 3
    # Positions are handed over: nothing of this picture is kept for the next one.
    case.rows(scenes[0].picture, EXPRESSIONS)
    assert model.module.base_model.rope_deltas is None


def test_positions_of_one_axis_would_be_noticed(case: Any) -> None:
    """With counted positions the rows are others: the comparison above has teeth."""
    hooks, model = case.engine._hooks, case.engine.model
    picture = noise(SIZES[0], 5)
    inputs = hooks.prepare_inputs(model, [Scene(picture)], [Expression(0, "the cup")], Prompt())
    tensors = {**inputs.tensors, "position_ids": counted(inputs.tensors["attention_mask"])}
    inputs = replace(inputs, tensors=MappingProxyType(tensors))
    flat = hooks.extract_attention(model, inputs, AttentionRequest(model.all_heads)).rows[0]
    rows = case.eager(picture, prompt_of("the cup"))
    assert np.abs(flat[:, 0].numpy() - rows).max() > 0.1


def test_the_painted_token_is_the_one_that_moves(folder: Path) -> None:
    """The tower reorders patches into windows and back; sizes that are no multiples of a token."""
    opened = open_adapter(QwenAdapter(), str(folder))
    try:
        module: Any = opened.model.module
        paint.unmix(module.base_model.visual)
        report = paint.probe(
            opened, paint.embeddings, ((168, 112), (240, 240), (333, 190), (130, 577))
        )
    finally:
        opened.model.close()
    print(f"qwen2.5-vl: {report.right} of {report.planned} probes right", *report.skipped)
    report.check()
