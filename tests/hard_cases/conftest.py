"""What the hard cases share: an engine over an adapter, and oracles that know nothing of it.

The oracle of rows is the model as transformers runs it: eager attention, one unpadded prompt that
its own processor made, every position left to the model. The oracle of fused maps paints pixels.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import AutoModelForImageTextToText

from vg_engine.core.contract.inputs import AttentionRequest, Expression
from vg_engine.core.contract.model import ModelSpec
from vg_engine.core.contract.picture import Picture
from vg_engine.core.contract.prompt import Prompt
from vg_engine.core.contract.scene import Scene
from vg_engine.core.engine.engine import Engine, Settings
from vg_engine.core.heads import Head, HeadSet
from vg_engine.core.readout.regions import peak_share
from vg_engine.plugins.manager import make_hooks


@dataclass(frozen=True, eq=False)
class Case:
    """One adapter with a tiny checkpoint: as an engine, and as transformers alone has it.

    Attributes:
        engine: over the adapter; maps are not smoothed, so that what it adds up is known.
        plain: the same checkpoint with eager attention, never seen by the adapter.
        call: what the processor's call needs beyond picture and text.
    """

    engine: Engine
    plain: Any
    call: dict[str, Any]

    def tensors(self, picture: Picture, text: str) -> dict[str, torch.Tensor]:
        """What the processor alone makes of one prompt."""
        return dict(
            self.engine.model.processor(
                images=[Image.fromarray(picture.pixels)],
                text=[text],
                return_tensors="pt",
                **self.call,
            )
        )

    def eager(self, picture: Picture, text: str, layers: Sequence[int] = ()) -> np.ndarray:
        """The eager rows of the last token of one prompt: heads of all (or some) layers x keys."""
        with torch.no_grad():
            answer = self.plain(
                **self.tensors(picture, text), output_attentions=True, use_cache=False
            )
        chosen = layers or range(len(answer.attentions))
        return np.concatenate([answer.attentions[layer][0, :, -1].numpy() for layer in chosen])

    def rows(
        self, picture: Picture, texts: Sequence[str], prompt: Prompt | None = None
    ) -> tuple[np.ndarray, ...]:
        """Per query what the hooks hand out: heads x rows x keys, of every head with a map."""
        hooks, model = self.engine._hooks, self.engine.model
        asked = [Expression(0, text) for text in texts]
        inputs = hooks.prepare_inputs(model, [Scene(picture)], asked, prompt or Prompt())
        request = AttentionRequest(model.all_heads)
        return tuple(row.numpy() for row in hooks.extract_attention(model, inputs, request).rows)

    def check(
        self,
        picture: Picture,
        prompts: dict[str, str],
        read: Callable[[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]],
        layers: Sequence[int] = (),
    ) -> tuple[float, float]:
        """Hold whole rows, `engine.maps` and `engine.ground` against the oracle's.

        Args:
            picture: what is asked about.
            prompts: expression -> its prompt as it must be rendered.
            read: from eager rows and token ids to the fused maps and the picture's entries.
            layers: where the picture is, if not in all.

        Returns:
            The largest difference, and the sharpest entry on the picture.
        """
        off = sharpest = 0.0
        for (expression, text), padded in zip(
            prompts.items(), self.rows(picture, list(prompts)), strict=True
        ):
            rows = self.eager(picture, text, layers)
            maps, entries = read(rows, self.tensors(picture, text)["input_ids"][0].numpy())
            # Out of a batch that is padded on the left: padding holds nothing at all.
            pads = padded.shape[-1] - rows.shape[-1]
            assert not padded[..., :pads].any()
            off = max(off, float(np.abs(padded[:, 0, pads:] - rows).max()))
            off = max(off, self._check_answers(picture, expression, maps, entries.sum(1)))
            sharpest = max(sharpest, float(entries.max()))
        return off, sharpest

    def _check_answers(
        self, picture: Picture, expression: str, maps: np.ndarray, shares: np.ndarray
    ) -> float:
        (seen,) = self.engine.maps(picture, expression)
        off = float(np.abs(seen.maps.values - maps).max())
        off = max(off, float(np.abs(seen.image_attention - shares).max()))
        answer = self.engine.ground(picture, expression)
        chosen = [seen.heads.index(head) for head in answer.heads]
        # No smoothing: the combined map is the sum of the chosen heads' maps.
        whole = seen.maps.with_values(maps[chosen].sum(0).astype(np.float32)).inside(picture.size)
        off = max(off, float(np.abs(answer.soft_map.values - whole.values).max()))
        row, col = divmod(int(whole.values.argmax()), whole.shape[1])
        cell = whole.to_original.box((float(col), float(row), col + 1.0, row + 1.0))
        assert answer.box is not None
        assert cell[0] <= answer.point[0] <= cell[2]
        assert cell[1] <= answer.point[1] <= cell[3]
        assert answer.box[0] <= answer.point[0] <= answer.box[2]
        assert answer.box[1] <= answer.point[1] <= answer.box[3]
        return off


@pytest.fixture(scope="module")
def case_of(request: pytest.FixtureRequest) -> Callable[..., Case]:
    """A case over an adapter's class and a checkpoint's folder."""

    def make(
        adapter_class: Any,
        folder: Path,
        *,
        heads: Sequence[Head] = (),
        call: dict[str, Any] | None = None,
        postprocessors: Sequence[tuple[str, object]] = (),
        **settings: Any,
    ) -> Case:
        given = HeadSet("given", tuple(heads), "given") if heads else None
        hooks = make_hooks(adapter_class.name, adapter_class(), postprocessors)
        engine = Engine(
            hooks,
            hooks.load_model(ModelSpec(str(folder), device="cpu", dtype="float32")),
            Settings(peak_share, "peak_share", sigma=0.0, kernel=1, **settings),
            head_set=given,
            decode=lambda image: Picture(np.asarray(image)),
        )
        request.addfinalizer(engine.close)
        auto_class: Any = AutoModelForImageTextToText
        plain = auto_class.from_pretrained(
            folder, attn_implementation="eager", dtype=torch.float32
        ).eval()
        return Case(engine, plain, call or {})

    return make


@pytest.fixture(scope="session")
def by_pixels() -> Callable[..., np.ndarray]:
    """Fuse views whose cells are whole pixels, pixel by pixel.

    A cell's mass is spread evenly over its pixels; where views overlap, their densities are
    averaged with weights of cells per pixel; the pixels of each finest cell are summed.
    """

    def paint(
        parts: Sequence[tuple[np.ndarray, tuple[int, int, int, int]]],
        size: tuple[int, int],
        cell: tuple[int, int],
    ) -> np.ndarray:
        width, height = size
        heads = parts[0][0].shape[0]
        mass, weight = np.zeros((heads, height, width)), np.zeros((height, width))
        for values, (left, top, right, bottom) in parts:
            deep, wide = (bottom - top) // values.shape[1], (right - left) // values.shape[2]
            density = np.repeat(np.repeat(values.astype(np.float64), deep, 1), wide, 2)
            mass[:, top:bottom, left:right] += density / (deep * wide) ** 2
            weight[top:bottom, left:right] += 1 / (deep * wide)
        fused = (mass / weight).reshape(
            heads, height // cell[1], cell[1], width // cell[0], cell[0]
        )
        return np.asarray(fused.sum((2, 4)))

    return paint
