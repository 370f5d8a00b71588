"""What the hard cases share: an engine over an adapter, and oracles that know nothing of it.

The oracle of rows is the model as transformers runs it: eager attention, one unpadded prompt that
its own processor made, every position left to the model. The oracle of fused maps paints pixels.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch
from families import fields
from PIL import Image
from transformers import (
    AutoModelForImageTextToText,
    Qwen2_5_VLConfig,
    Qwen2_5_VLForConditionalGeneration,
    Qwen2_5_VLProcessor,
)

from vg_engine.core.contract.inputs import AttentionRequest, Expression
from vg_engine.core.contract.model import ModelSpec
from vg_engine.core.contract.picture import Picture
from vg_engine.core.contract.prompt import Prompt
from vg_engine.core.contract.scene import Scene
from vg_engine.core.engine.engine import Engine, Settings
from vg_engine.core.heads import HeadSet
from vg_engine.core.readout.regions import peak_share
from vg_engine.plugins.manager import make_hooks
from vg_engine.testing.tiny import save_tiny, text_sizes
from vg_engine.testing.tiny_qwen import CHAT_WITH_SYSTEM, qwen_processor, qwen_tokenizer, token_ids


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

    def tensors(self, picture, text):
        """What the processor alone makes of one prompt."""
        images = [Image.fromarray(picture.pixels)]
        processor = self.engine.model.processor
        return processor(images=images, text=[text], return_tensors="pt", **self.call)

    def attentions(self, tensors):
        """Eager attention, a tensor per layer: heads x rows x keys."""
        with torch.no_grad():
            answer = self.plain(**tensors, output_attentions=True, use_cache=False)
        return [layer[0] for layer in answer.attentions]

    def eager(self, picture, text, layers=()):
        """The eager rows of the last token of one prompt: heads of all (or some) layers x keys."""
        found = self.attentions(self.tensors(picture, text))
        chosen = layers or range(len(found))
        return np.concatenate([found[layer][:, -1].numpy() for layer in chosen])

    def prepared(self, scenes, asked, prompt=None):
        """Inputs by the hooks: `asked` are pairs of a picture's number and a text."""
        expressions = [Expression(*pair) for pair in asked]
        scenes = [Scene(picture) for picture in scenes]
        hooks, model = self.engine._hooks, self.engine.model
        return hooks.prepare_inputs(model, scenes, expressions, prompt or Prompt())

    def located(self, inputs):
        return self.engine._hooks.locate_image_tokens(self.engine.model, inputs)

    def rows(self, inputs):
        """Per query what the hooks hand out: heads x rows x keys, of every head with a map."""
        model = self.engine.model
        request = AttentionRequest(model.all_heads)
        found = self.engine._hooks.extract_attention(model, inputs, request).rows
        return [row.numpy() for row in found]

    def check(self, picture, prompts, read, layers=()):
        """Hold whole rows, `engine.maps` and `engine.ground` against the oracle's.

        Args:
            picture: what is asked about.
            prompts: expression -> its prompt as it must be rendered.
            read: from eager rows and token ids to the fused maps and the picture's entries.
            layers: where the picture is, if not in all.

        Returns:
            The largest difference, and the sharpest entry on the picture.
        """
        off, sharpest = [], []
        asked = self.rows(self.prepared([picture], [(0, text) for text in prompts]))
        for (expression, text), padded in zip(prompts.items(), asked, strict=True):
            rows = self.eager(picture, text, layers)
            maps, entries = read(rows, self.tensors(picture, text)["input_ids"][0].numpy())
            # Out of a batch that is padded on the left: padding holds nothing at all.
            pads = padded.shape[-1] - rows.shape[-1]
            assert not padded[..., :pads].any()
            off.append(np.abs(padded[:, 0, pads:] - rows).max())
            off.append(self._check_answers(picture, expression, maps, entries.sum(1)))
            sharpest.append(entries.max())
        return max(off), max(sharpest)

    def _check_answers(self, picture, expression, maps, shares):
        (seen,) = self.engine.maps(picture, expression)
        answer = self.engine.ground(picture, expression)
        chosen = [seen.heads.index(head) for head in answer.heads]
        # No smoothing: the combined map is the sum of the chosen heads' maps.
        whole = seen.maps.with_values(maps[chosen].sum(0).astype(np.float32)).inside(picture.size)
        row, col = divmod(int(whole.values.argmax()), whole.shape[1])
        cell = whole.to_original.box((float(col), float(row), col + 1.0, row + 1.0))
        assert answer.box is not None
        for box in (cell, answer.box):
            assert box[0] <= answer.point[0] <= box[2]
            assert box[1] <= answer.point[1] <= box[3]
        pairs = (
            (seen.maps.values, maps),
            (seen.image_attention, shares),
            (answer.soft_map.values, whole.values),
        )
        return max(np.abs(one - other).max() for one, other in pairs)


@pytest.fixture(scope="module")
def case_of(request):
    """A case over an adapter's class and a checkpoint's folder."""

    def make(adapter_class, folder, *, heads=(), call=None, **settings):
        hooks = make_hooks(adapter_class.name, adapter_class())
        engine = Engine(
            hooks,
            hooks.load_model(ModelSpec(str(folder), device="cpu", dtype="float32")),
            Settings(peak_share, "peak_share", sigma=0.0, kernel=1, **settings),
            head_set=HeadSet("given", tuple(heads), "given") if heads else None,
            decode=lambda image: Picture(np.asarray(image)),
        )
        request.addfinalizer(engine.close)
        plain = AutoModelForImageTextToText.from_pretrained(
            folder, attn_implementation="eager", dtype=torch.float32
        ).eval()
        return Case(engine, plain, call or {})

    return make


@pytest.fixture(scope="session")
def by_pixels():
    """Fuse views whose cells are whole pixels, pixel by pixel.

    A cell's mass is spread evenly over its pixels; where views overlap, their densities are
    averaged with weights of cells per pixel; the pixels of each finest cell are summed.
    """

    def paint(parts, size, cell):
        width, height = size
        heads = parts[0][0].shape[0]
        mass, weight = np.zeros((heads, height, width)), np.zeros((height, width))
        for values, (left, top, right, bottom) in parts:
            deep, wide = (bottom - top) // values.shape[1], (right - left) // values.shape[2]
            density = np.repeat(np.repeat(values.astype(np.float64), deep, 1), wide, 2)
            mass[:, top:bottom, left:right] += density / (deep * wide) ** 2
            weight[top:bottom, left:right] += 1 / (deep * wide)
        shape = (heads, height // cell[1], cell[1], width // cell[0], cell[0])
        return (mass / weight).reshape(shape).sum((2, 4))

    return paint


@pytest.fixture(scope="session")
def tiny_qwen(tmp_path_factory):
    """Qwen2.5-VL: a token is 28 pixels; the tower attends in windows of 2 x 2 tokens."""
    tokenizer = qwen_tokenizer()
    rope = {"rope_type": "default", "mrope_section": [2, 3, 3]}
    config = Qwen2_5_VLConfig(
        text_config={**text_sizes(tokenizer), "rope_parameters": rope},
        vision_config=fields("""depth=2 hidden_size=32 intermediate_size=64 num_heads=4
            out_hidden_size=64 window_size=56 fullatt_block_indexes=[1]"""),
        **token_ids(tokenizer),
    )
    torch.manual_seed(0)
    module = Qwen2_5_VLForConditionalGeneration(config)
    module.lm_head.weight.data.normal_()  # answers that do not repeat one token
    module.generation_config.eos_token_id = tokenizer.eos_token_id
    # As the real checkpoints' settings: greedy answers pass over those of sampling.
    module.generation_config.update(repetition_penalty=1.05)
    processor = qwen_processor(Qwen2_5_VLProcessor, tokenizer, chat=CHAT_WITH_SYSTEM)
    return save_tiny(module, processor, tmp_path_factory.mktemp("qwen") / "tiny")
