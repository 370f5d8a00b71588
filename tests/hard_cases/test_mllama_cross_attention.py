"""Hard case 3: Mllama through the hooks: the picture is on the keys of cross-attention layers.

Those keys are no text: tiles x (class token + patches), filled up to the most tiles that a
picture may have. The adapter is what a third party would write.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from transformers import MllamaConfig, MllamaForConditionalGeneration, MllamaProcessor
from transformers.models.mllama.image_processing_pil_mllama import (
    MllamaImageProcessorPil,
    get_image_size_fit_to_canvas,
    get_optimal_tiled_canvas,
)

from vg_engine.core.contract.inputs import Expression, PreparedInputs
from vg_engine.core.contract.model import LoadedModel, ModelSpec
from vg_engine.core.contract.prompt import Prompt
from vg_engine.core.contract.scene import Scene
from vg_engine.core.errors import HeadsError
from vg_engine.core.geometry import Frame, View
from vg_engine.core.heads import Head
from vg_engine.model_adapters.shared.grids import Grid, views_of
from vg_engine.model_adapters.shared.huggingface import VICUNA, HuggingFaceAdapter
from vg_engine.testing import Opened, noise, open_adapter, paint
from vg_engine.testing.tiny import byte_tokenizer, sharpen

# A tile of 56 pixels is a class token and 4 x 4 patches; there is always room for four tiles.
TILE, PATCH, SIDE, MOST = 56, 14, 4, 4
TOKENS = 1 + SIDE * SIDE
LAYERS, CROSS = 6, (1, 3, 5)
EXPRESSIONS = ("the cup", "a dog that looks to the far left", "it")
# (width, height) of pictures that are not resized, and their columns and rows of tiles.
SHAPES = (((56, 56), (1, 1)), ((112, 56), (2, 1)), ((100, 104), (2, 2)), ((56, 150), (1, 3)))


class OnePicturePerPrompt(MllamaProcessor):
    """A flat list of pictures is one per prompt, as with every other family's processor."""

    def __call__(self, images: Any = None, text: Any = None, **options: Any) -> Any:
        return super().__call__(images=[[image] for image in images], text=text, **options)


class MllamaAdapter(HuggingFaceAdapter):
    """Models of type `mllama`."""

    name: ClassVar[str] = "mllama"
    model_types: ClassVar[tuple[str, ...]] = ("mllama",)
    processor_class: ClassVar[Any] = OnePicturePerPrompt
    bare: ClassVar[str] = "{image}{system}\n{text}"

    def vg_load_model(self, spec: ModelSpec) -> LoadedModel:
        """Only the cross-attention layers see the picture."""
        loaded = super().vg_load_model(spec)
        module: Any = loaded.module
        return replace(loaded, map_layers=tuple(module.config.text_config.cross_attention_layers))

    def vg_locate_image_tokens(
        self, model: LoadedModel, inputs: PreparedInputs
    ) -> list[list[View]]:
        """Tile by tile on the keys of the cross-attention, behind each tile's class token."""
        located = []
        for query in inputs.queries:
            grids = self.grids(model, Frame.of(*inputs.sizes[query.scene]))
            tiles = int(inputs.tensors["aspect_ratio_mask"][query.sequence].sum())
            located.append(views_of(grids, np.arange(tiles * TOKENS), model=model.name))
        return located

    def grids(self, model: LoadedModel, frame: Frame) -> Sequence[Grid]:
        """Fitted into whole tiles without changing its shape, filled up on the right and below."""
        most, side = model.processor.image_processor.max_image_tiles, TILE
        shape = {"image_height": int(frame.height), "image_width": int(frame.width)}
        high, wide = get_optimal_tiled_canvas(**shape, max_image_tiles=most, tile_size=side)
        height, width = get_image_size_fit_to_canvas(
            **shape, canvas_height=high, canvas_width=wide, tile_size=side
        )
        shown = frame.resize(float(width), float(height))
        canvas = shown.pad(0.0, 0.0, float(wide - width), float(high - height))
        return [
            Grid(
                canvas.crop(float(left), float(top), float(side), float(side)),
                SIDE,
                SIDE,
                f"tile {top // side},{left // side}",
                skip=1,
            )
            for top in range(0, int(high), side)
            for left in range(0, int(wide), side)
        ]


def tiny_mllama(folder: Path) -> Path:
    begin, pad, image = "<|begin_of_text|>", "<|finetune_right_pad_id|>", "<|image|>"
    tokenizer = byte_tokenizer(
        [begin, pad, "<|python_tag|>", image],
        bos_token=begin,
        pad_token=pad,
        extra_special_tokens=[image],
        padding_side="left",
    )
    made: Any = MllamaConfig
    config = made(
        text_config={
            "vocab_size": len(tokenizer),
            "hidden_size": 64,
            "intermediate_size": 128,
            "num_hidden_layers": LAYERS,
            "num_attention_heads": 4,
            "num_key_value_heads": 2,
            "cross_attention_layers": list(CROSS),
            "max_position_embeddings": 4096,
            "pad_token_id": tokenizer.pad_token_id,
            "bos_token_id": tokenizer.bos_token_id,
            "eos_token_id": tokenizer.pad_token_id,
        },
        vision_config={
            "image_size": TILE,
            "patch_size": PATCH,
            "hidden_size": 32,
            "intermediate_size": 64,
            "num_hidden_layers": 3,
            "num_global_layers": 1,
            "attention_heads": 4,
            "intermediate_layers_indices": [1, 2],
            "vision_output_dim": 96,
            "max_num_tiles": MOST,
        },
        image_token_index=tokenizer.convert_tokens_to_ids(image),
    )
    torch.manual_seed(0)
    module: Any = MllamaForConditionalGeneration(config)
    sharpen(module.get_decoder(), 4.0)
    for name, parameter in module.named_parameters():
        # Queries and keys are normed here, so projections cannot sharpen; gates open at zero.
        if "cross_attn.q_norm" in name or "cross_attn.k_norm" in name:
            parameter.data.mul_(3.5)
        if "gate" in name and parameter.numel() == 1:
            parameter.data.fill_(0.5)
    module.save_pretrained(folder)
    images = MllamaImageProcessorPil(size={"height": TILE, "width": TILE}, max_image_tiles=MOST)
    processor_class: Any = MllamaProcessor
    processor_class(images, tokenizer).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_mllama(tmp_path_factory.mktemp("mllama") / "tiny")


@pytest.fixture(scope="module")
def case(folder: Path, case_of: Callable[..., Any]) -> Any:
    return case_of(MllamaAdapter, folder, heads=[Head(3, 1), Head(5, 0)])


def prompt_of(expression: str) -> str:
    return f"<|image|>{VICUNA}\n{expression}."


def test_maps_equal_eager_cross_attention(case: Any, by_pixels: Callable[..., np.ndarray]) -> None:
    prompts = {text: prompt_of(text) for text in EXPRESSIONS}
    found = []
    for size, (cols, rows_) in SHAPES:
        boxes = [
            (col * TILE, row * TILE, (col + 1) * TILE, (row + 1) * TILE)
            for row in range(rows_)
            for col in range(cols)
        ]

        def read(rows: np.ndarray, _: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
            assert rows.shape == (len(CROSS) * 4, MOST * TOKENS)
            tiles = rows.reshape(-1, MOST, TOKENS)
            used = len(boxes)  # noqa: B023 - called in this round
            assert not tiles[:, used:].any()  # room for tiles that this picture has not got
            seen = tiles[:, :used, 1:]  # every tile begins with its class token
            grids = [seen[:, tile].reshape(-1, SIDE, SIDE) for tile in range(used)]
            canvas = (cols * TILE, rows_ * TILE)  # noqa: B023 - the same
            parts = list(zip(grids, boxes, strict=True))  # noqa: B023 - the same
            return by_pixels(parts, canvas, (PATCH, PATCH)), seen.reshape(len(rows), -1)

        found.append(case.check(noise(size, 9), prompts, read, CROSS))
    worst, sharpest = np.max(found, axis=0)
    print(f"mllama: largest error {worst:.1e}, sharpest {sharpest:.2f}")
    assert worst < 1e-5
    assert sharpest > 0.8


def test_rows_are_those_of_the_cross_attention_modules(case: Any) -> None:
    """The weights that the very modules hand out, which have no position in the text."""
    kept: list[np.ndarray] = []
    modules = [part for name, part in case.plain.named_modules() if name.endswith("cross_attn")]
    handles = [
        module.register_forward_hook(lambda _, __, out: kept.append(out[1][0, :, -1].numpy()))
        for module in modules
    ]
    picture = noise((112, 56), 2)
    case.eager(picture, prompt_of("the cup"), CROSS)
    for handle in handles:
        handle.remove()
    assert len(kept) == len(CROSS)
    (rows,) = case.rows(picture, ["the cup"])
    assert case.engine.model.map_layers == CROSS
    assert np.abs(rows[:, 0] - np.concatenate(kept)).max() < 1e-5


def test_views_are_the_tiles_behind_their_class_tokens(case: Any) -> None:
    hooks, model = case.engine._hooks, case.engine.model
    scenes = [Scene(noise(size)) for size, _ in SHAPES]
    asked = [Expression(index, "it") for index in range(len(SHAPES))]
    inputs = hooks.prepare_inputs(model, scenes, asked, Prompt())
    for views, (_, (cols, rows)) in zip(
        hooks.locate_image_tokens(model, inputs), SHAPES, strict=True
    ):
        assert len(views) == cols * rows
        for index, view in enumerate(views):
            top, left = index // cols * TILE, index % cols * TILE
            assert view.extent == (left, top, left + TILE, top + TILE)
            for (row, col), position in np.ndenumerate(view.positions):
                assert position == index * TOKENS + 1 + row * SIDE + col


def cross_states(opened: Opened, inputs: PreparedInputs) -> torch.Tensor:
    """The picture as the cross-attention layers get it: sequences x keys x width."""
    names = ("pixel_values", "aspect_ratio_ids", "aspect_ratio_mask")
    inner: Any = opened.model.module.base_model
    with torch.no_grad():
        seen = inner.vision_model(**{name: inputs.tensors[name] for name in names})
    states: torch.Tensor = seen.last_hidden_state
    return states.reshape(len(states), -1, states.shape[-1])


def test_the_painted_cell_is_the_one_that_moves(folder: Path) -> None:
    opened = open_adapter(MllamaAdapter(), str(folder))
    try:
        module: Any = opened.model.module
        paint.unmix(module.base_model.vision_model)
        report = paint.probe(opened, cross_states, ((100, 104), (333, 190), (61, 150), (40, 30)))
    finally:
        opened.model.close()
    print(f"mllama: {report.right} of {report.planned} probes right", *report.skipped)
    report.check()


def test_leaves_early(case: Any) -> None:
    ran: list[int] = []
    handles = [
        layer.register_forward_hook(lambda *_, index=index: ran.append(index))
        for index, layer in enumerate(case.engine.model.module.get_decoder().layers)
    ]
    case.engine.maps(noise((56, 56)), "it", [Head(3, 0)])
    for handle in handles:
        handle.remove()
    assert ran == [0, 1, 2, 3]


@pytest.mark.parametrize("heads", [[Head(2, 0)], [Head(2, 0), Head(3, 0)]])
def test_heads_of_self_attention_are_refused(case: Any, heads: list[Head]) -> None:
    """Their keys are text: a map read from them would be another thing's, without an error."""
    with pytest.raises(HeadsError, match="L2H0"):
        case.engine.maps(noise((56, 56)), "it", heads)
