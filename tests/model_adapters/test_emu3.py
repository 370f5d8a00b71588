"""Emu3 passes the public contract: a grid of discrete tokens whose rows end in a token."""

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
import transformers as hf
from building import embed_codes, fields, keep_own_pixels, plain, text_part, vocabulary
from families import VICUNA, ask, contract, opens, prompted, shows, views

from vg_engine.core.contract.inputs import Expression
from vg_engine.core.contract.picture import Picture
from vg_engine.core.errors import TokenCountError
from vg_engine.model_adapters.families.emu3 import Emu3Adapter
from vg_engine.testing import noise, paint
from vg_engine.testing.tiny import LLAVA_CHAT, save_tiny

CODES = 256
NAMED = {"image_token": "<image>", "boi_token": "<|image start|>", "eoi_token": "<|image end|>"}
NAMED |= {"image_wrapper_token": "<|image token|>", "eof_token": "<|extra_201|>"}
# Of the golden prompts' picture of 64 x 64 pixels.
PICTURE = "<|image start|>8*8<|image token|><image><|extra_201|><|image end|>"
GOLDEN = (
    prompted(f"<|extra_203|>{VICUNA} {PICTURE}\nthe cup.", form="bare"),
    # The family's template is LLaVA's.
    prompted(f"<|extra_203|>USER: {PICTURE}\nwhich cup? ASSISTANT:", "which cup?"),
)


def tiny_emu3(folder, *, least=48, most=80, reads=16384):
    """A tiny checkpoint; `least` and `most` are sides of squares, in pixels."""
    special = "pad=<|endoftext|> bos=<|extra_203|> eos=<|extra_204|> <|extra_200|>"
    tokenizer = vocabulary(special, NAMED)
    images = hf.Emu3ImageProcessor(min_pixels=least**2, max_pixels=most**2)
    processor = hf.Emu3Processor(images, tokenizer, chat_template=LLAVA_CHAT)
    known = ("<image>", "<|extra_200|>")
    codes = dict(zip(known, tokenizer.convert_tokens_to_ids(list(known)), strict=True))
    codes |= {f"<|visual token {code:06d}|>": len(tokenizer) + code for code in range(CODES)}
    text = text_part(tokenizer, vocab_size=len(tokenizer) + CODES, max_position_embeddings=reads)
    vision = fields("base_channels=32 channel_multiplier=[1,1,1,1] num_res_blocks=1 hidden_size=32")
    vision["codebook_size"] = CODES
    config = hf.Emu3Config(text_config=text, vq_config=vision, vocabulary_map=codes)
    torch.manual_seed(0)
    module = hf.Emu3ForConditionalGeneration(config)
    use_codes(module.model.vqmodel, torch.rand(4, 3, 80, 80) * 4 - 2)
    return save_tiny(module, processor, folder)


def use_codes(tower, pixels: torch.Tensor):
    """Make a codebook of what the encoder says about some pictures."""
    with torch.no_grad():
        seen = tower.encoder(pixels.unsqueeze(1).repeat(1, 4, 1, 1, 1)).permute(0, 2, 1, 3, 4)
        found = tower.quant_conv(seen).permute(0, 2, 3, 4, 1).flatten(0, 3)
        tower.quantize.embedding.weight.copy_(found[torch.randperm(len(found))[:CODES]])


class Alone(hf.Emu3ForConditionalGeneration):
    """As transformers runs one picture: the canvas of another is no business of its codes."""

    def forward(self, **tensors: Any):
        answers = []
        for one, (height, width) in enumerate(tensors["image_sizes"].tolist()):
            own = {
                name: value[one : one + 1] if torch.is_tensor(value) else value
                for name, value in tensors.items()
            }
            own["pixel_values"] = own["pixel_values"][:, :, :height, :width]
            answers.append(super().forward(**own).attentions)
        return SimpleNamespace(attentions=tuple(map(torch.cat, zip(*answers, strict=True))))


class _Plain(torch.nn.Module):
    """In place of a norm over the whole picture."""

    def forward(self, states: torch.Tensor, _: object = None) -> torch.Tensor:
        return states.clone()


class TestEmu3(contract(Emu3Adapter, GOLDEN, tiny_emu3)):
    strips = False  # a code changes only if much of its cell does

    def load_plain(self, folder, attention: str):
        kind = Alone if attention == "eager" else hf.Emu3ForConditionalGeneration
        return plain(kind)(self, folder, attention)

    def vision_tower(self, module):
        return module.model.vqmodel

    def unmix(self, opened):
        """No norms over the whole picture, no attention, and no look beyond one's own patch."""
        tower = self.vision_tower(opened.model.module)
        paint.unmix(tower.encoder, ("out_proj",))
        torch.manual_seed(0)
        for name, part in list(tower.encoder.named_modules()):
            if isinstance(part, torch.nn.GroupNorm):
                tower.encoder.set_submodule(name, _Plain())
            elif isinstance(part, torch.nn.Conv2d | torch.nn.Conv3d):
                keep_own_pixels(part)
        pictures = [noise((64, 64), seed) for seed in range(3)]
        red = Picture(np.full((64, 64, 3), (255, 0, 0), dtype=np.uint8))
        asked = [Expression(index, "it") for index in range(4)]
        inputs = opened.prepare([*pictures, red], asked)
        use_codes(tower, inputs.tensors["pixel_values"])
        embed_codes(opened.model.module)


def test_rows_end_in_a_token_of_their_own(tmp_path):
    opened = opens(Emu3Adapter, tiny_emu3(tmp_path / "tiny", least=512, most=1024))
    view = shows(opened, (640, 480), (60, 80))
    inputs = ask(opened, (640, 480))
    assert np.diff(view.positions[:, 0]).tolist() == [81] * 59
    assert "60*80<|image token|>" in inputs.rendered[0]
    images = opened.model.processor.image_processor
    images.min_pixels = images.max_pixels = 512**2
    with pytest.raises(TokenCountError, match=r"expected 4070 image tokens .* made 4860"):
        opened.views(inputs)


def test_a_picture_becomes_no_more_tokens_than_the_model_reads(tmp_path):
    opened = opens(Emu3Adapter, tiny_emu3(tmp_path / "tiny", least=512, most=1024, reads=9216))
    assert opened.model.statements == ("Pictures are shown with at most 524288 pixels.",)
    assert ask(opened, (2000, 1500)).tensors["input_ids"].shape[1] < 9216
    assert views(opened, (2000, 1500))[0].shape == (78, 104)
