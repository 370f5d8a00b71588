"""GOT-OCR2 passes the public contract: one page, and cut into tiles (multi-crop)."""

from typing import ClassVar

import pytest
import torch
import transformers as hf
from building import by_default, chat, even_out, fields, square, text_part, vocabulary
from families import ask, checkpoint, contract, opens, prompted, shows, tiled

from vg_engine.core.errors import ModelError
from vg_engine.model_adapters.families import got_ocr2
from vg_engine.model_adapters.families.got_ocr2 import GotOcr2Adapter
from vg_engine.testing import paint
from vg_engine.testing.tiny import save_tiny

# Checkpoints have no chat template: this writes the prompt that the processor writes by itself.
ANSWER, PICTURE = "<|im_start|>assistant\n", "<img><imgpad></img>\n"
CHAT = chat("<|im_start|>ROLE\n", PICTURE, "<|im_end|>", answer=ANSWER)
ASKED = f"<|im_start|>user\n{PICTURE}which cup?<|im_end|>{ANSWER}"
GOLDEN = (
    prompted("Look. <img><imgpad></img>\nthe cup.", form="bare", system="Look."),
    prompted(ASKED, "which cup?", query_row="prompt_last", rows=(198,)),
)


def tiny(folder, *, image_size=256, layers=4, seed=0):
    """A tiny GOT-OCR2; 1024 pixels make the real 16 x 16 cells."""
    named = ["<|im_start|>", "<|im_end|>", "<img>", "</img>", "<imgpad>"]
    tokenizer = vocabulary("pad=<|endoftext|>", named)
    images = hf.GotOcr2ImageProcessorPil(size=square(image_size))
    processor = hf.GotOcr2Processor(images, tokenizer, chat_template=CHAT)
    config = hf.GotOcr2Config(
        vision_config=hf.GotOcr2VisionConfig(
            **fields("""hidden_size=32 output_channels=16 num_hidden_layers=2 window_size=7
                num_attention_heads=4 global_attn_indexes=[1] mlp_dim=64 initializer_range=0.02"""),
            image_size=image_size,
        ),
        text_config=hf.Qwen2Config(**text_part(tokenizer, layers=layers)),
        image_token_index=tokenizer.convert_tokens_to_ids("<imgpad>"),
        image_seq_length=(image_size // 64) ** 2,
    )
    torch.manual_seed(seed)
    return save_tiny(hf.GotOcr2ForConditionalGeneration(config), processor, folder)


class _GotContract(contract(GotOcr2Adapter, GOLDEN, tiny)):
    shapes = ((240, 240), (333, 190), (187, 341), (500, 150), (130, 377), (97, 61))

    def unmix(self, opened):
        """Even out the kernels, too: random ones move each token's place by chance.

        A token still sees all that it saw, around the middle of what it saw.
        """
        super().unmix(opened)
        even_out(opened.model.module)

    load_plain = by_default


class TestOnePage(_GotContract):
    pass


class TestTiles(_GotContract):
    options: ClassVar = {"max_tiles": 4}
    # The left and upper edge of a tile's first cells lie on the tile before, which they do not see.
    strips = False


real_page = checkpoint(tiny, image_size=1024, layers=1)


def test_a_page_has_sixteen_by_sixteen_tokens_before_their_even_places(real_page):
    opened = opens(GotOcr2Adapter, real_page)
    # 3/8 of a cell of 40 x 30 pixels.
    shows(opened, (640, 480), (16, 16), (-15.0, -11.25, 625.0, 468.75))


def test_multi_crop_has_tiles_and_a_thumbnail_last(real_page):
    opened = opens(GotOcr2Adapter, real_page, max_tiles=6)
    tiled(opened, (600, 400), (2, 3), (16, 16), {}, last=["thumbnail"])


@pytest.mark.parametrize(("shift", "right"), [(0.375, True), (0.25, False), (0.0, False)])
def test_an_even_division_of_the_page_would_be_wrong(tmp_path, monkeypatch, shift, right):
    """Where a token lies is not where the sixteenth of the page lies: the probe has teeth."""
    monkeypatch.setattr(got_ocr2, "_SHIFT", shift)
    opened = opens(GotOcr2Adapter, tiny(tmp_path / "m", image_size=512, layers=1, seed=1))
    paint.unmix(opened.model.module.base_model.vision_tower)
    even_out(opened.model.module)
    report = paint.probe(opened, paint.embeddings, [(512, 512), (700, 400), (300, 777)])
    assert (not report.wrong) == right


def test_pages_of_another_size_than_the_tower_takes_are_refused(real_page):
    opened = opens(GotOcr2Adapter, real_page)
    images = opened.model.processor.image_processor
    images.size = type(images.size)(height=512, width=512)
    with pytest.raises(ModelError, match="do not belong together"):
        opened.rows(ask(opened))
