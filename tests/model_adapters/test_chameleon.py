"""Chameleon passes the public contract: a grid of discrete tokens."""

import numpy as np
import torch
import transformers as hf
from building import chat, embed_codes, fields, keep_own_pixels, save, square, text_part, vocabulary
from families import VICUNA, ask, contract, opens, prompted, shows

from vg_engine.core.contract.inputs import Expression
from vg_engine.core.contract.picture import Picture
from vg_engine.model_adapters.families.chameleon import ChameleonAdapter
from vg_engine.testing import noise

CODES = 256
# The family ships no template: this one is for the contract alone.
CHAT = chat("", "<image>", "")
PICTURE = "<racm3:break><image><eoss>"
GOLDEN = (
    prompted(f"{VICUNA} {PICTURE}\nthe cup.<reserved08706>", form="bare"),
    prompted(f"{PICTURE}which cup?<reserved08706>", "which cup?"),
)


def tiny_chameleon(folder, *, side=64, steps: tuple[int, ...] = (1, 1, 1, 1), layers: int = 4):
    """A tiny checkpoint: each step of its encoder but the last halves the picture."""
    special = "pad=<pad> bos=<s> eos=</s> <racm3:break> <eoss> <image> sep=<reserved08706>"
    tokenizer = vocabulary(special, extra_special_tokens=["<image>"])
    tokenizer.chat_template = CHAT
    size = {"shortest_edge": side}
    images = hf.ChameleonImageProcessorPil(size=size, crop_size=square(side))
    tokens = (side // 2 ** (len(steps) - 1)) ** 2
    processor = hf.ChameleonProcessor(images, tokenizer, image_seq_length=tokens)
    # A code's digits are spelt with letters: IMGIMGBCZ is code 12.
    spelt = ["".join(chr(ord("A") + int(digit)) for digit in str(code)) for code in range(CODES)]
    codes = {f"IMGIMG{word}Z": len(tokenizer) + code for code, word in enumerate(spelt)}
    config = hf.ChameleonConfig(
        **text_part(tokenizer, layers=layers, vocab_size=len(tokenizer) + CODES),
        vocabulary_map={"<image>": tokenizer.convert_tokens_to_ids("<image>"), **codes},
        vq_config={
            **fields("embed_dim=8 latent_channels=32 base_channels=32 num_res_blocks=1"),
            "num_embeddings": CODES,
            "resolution": side,
            "channel_multiplier": list(steps),
        },
    )
    return save(hf.ChameleonForConditionalGeneration, config, processor, folder, norms=2.0)


FOREIGN = ("image_seq_length", 1023, (64, 1023))


class TestChameleon(contract(ChameleonAdapter, GOLDEN, tiny_chameleon, foreign=FOREIGN)):
    strips = False  # a code changes only if much of its cell does

    def vision_tower(self, module):
        return module.model.vqmodel

    def unmix(self, opened):
        """No norms over the whole picture, no attention, and no look beyond one's own patch."""
        tower = self.vision_tower(opened.model.module)
        torch.manual_seed(0)
        for name, part in list(tower.encoder.named_modules()):
            if isinstance(part, torch.nn.GroupNorm):
                tower.encoder.set_submodule(name, torch.nn.Identity())
            elif name.endswith("proj_out"):
                torch.nn.init.zeros_(part.weight)
            elif isinstance(part, torch.nn.Conv2d):
                keep_own_pixels(part)
        # Codes that these other features use: of noise, and of plain colours.
        pictures = [noise((64, 64), seed) for seed in range(3)]
        red = Picture(np.full((64, 64, 3), (255, 0, 0), dtype=np.uint8))
        asked = [Expression(index, "it") for index in range(4)]
        inputs = opened.prepare([*pictures, red], asked)
        with torch.no_grad():
            seen = tower.quant_conv(tower.encoder(inputs.tensors["pixel_values"]))
            seen = seen.permute(0, 2, 3, 1).reshape(-1, seen.shape[1])
            seen = seen[torch.randperm(len(seen))[:CODES]]
            tower.quantize.embedding.weight.copy_(seen)
        embed_codes(opened.model.module)

    def test_vision_tower_keeps_its_attention(self, folder, opened):
        """Here the whole model shares one config with its decoder, so the tower is asked itself."""
        plain = self.vision_tower(self.load_plain(folder, "sdpa"))
        tower = self.vision_tower(opened.model.module)
        tensors = ask(opened, (90, 70)).tensors
        codes = [each.encode(tensors["pixel_values"]).image_tokens for each in (plain, tower)]
        assert len(codes[0].unique()) > 1
        assert torch.equal(*codes)

    def features(self, opened, inputs) -> torch.Tensor:
        """What the first layer gets: the embedding of a cell moves when its code changes."""
        module, kept = opened.model.module, []
        layer = module.get_decoder().layers[0]
        handle = layer.register_forward_pre_hook(lambda _, arguments: kept.append(arguments[0]))
        with torch.no_grad():
            module(**inputs.tensors, use_cache=False)
        handle.remove()
        return kept[0].float()


def test_the_middle_of_a_photograph_is_32_by_32_cells(tmp_path):
    folder = tiny_chameleon(tmp_path / "512", side=512, steps=(1, 1, 1, 1, 1), layers=2)
    opened = opens(ChameleonAdapter, folder)
    # 682 x 512 after resizing, of which 85 columns at either end are cut off.
    shows(opened, (640, 480), (32, 32), (85 * 640 / 682, 0.0, 597 * 640 / 682, 480.0))
    assert "cut to a square" in opened.model.statements[0]
