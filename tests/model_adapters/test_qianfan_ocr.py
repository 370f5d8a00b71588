"""Qianfan-OCR passes the public contract: InternVL's tiles behind another placeholder."""

import pytest
import transformers as hf
from building import TOWER, fields, save, square, text_part, vocabulary
from families import ask, chatml, contract, opens, prompted, tiled

from vg_engine.core.errors import ExpressionError
from vg_engine.model_adapters.families.qianfan_ocr import QianfanOCRAdapter
from vg_engine.testing.tiny import INTERNVL_CHAT

# InternVL's template, from memory, with the placeholder that the processor documents.
CHAT = INTERNVL_CHAT.replace("<IMG_CONTEXT>", "<image>")
ASKED = chatml("<img><IMG_CONTEXT></img>\nwhich cup?")
GOLDEN = (
    prompted("Look. <img><IMG_CONTEXT></img>\nthe cup.", form="bare", system="Look."),
    prompted(ASKED, "which cup?", query_row="prompt_last", rows=(198,)),
)


def tiny(folder, *, image_size=112, most=4, layers=4):
    """A tiny Qianfan-OCR, whose tokenizer does not know the placeholder `<image>`."""
    named = fields("""start_image_token=<img> end_image_token=</img>
        context_image_token=<IMG_CONTEXT>""")
    tokenizer = vocabulary("pad=<|endoftext|> <|im_start|> eos=<|im_end|>", named)
    length = (image_size // 28) ** 2
    images = hf.GotOcr2ImageProcessorPil(size=square(image_size), max_patches=most)
    processor = hf.QianfanOCRProcessor(
        images, tokenizer, image_seq_length=length, chat_template=CHAT
    )
    config = hf.QianfanOCRConfig(
        vision_config=hf.QianfanOCRVisionConfig(**TOWER, image_size=(image_size, image_size)),
        text_config=hf.Qwen3Config(**text_part(tokenizer, layers=layers), head_dim=16),
        image_token_id=tokenizer.convert_tokens_to_ids("<IMG_CONTEXT>"),
        image_seq_length=length,
    )
    return save(hf.QianfanOCRForConditionalGeneration, config, processor, folder, norms=2.0)


class TestQianfanOCR(
    contract(QianfanOCRAdapter, GOLDEN, tiny, foreign=("image_seq_length", 255, (16, 255)))
):
    def test_the_placeholder_is_no_word_of_the_model(self, opened):
        """The tokenizer learnt it here, beyond the embeddings; it never reaches the model."""
        inputs = ask(opened)
        known = opened.model.module.get_input_embeddings().num_embeddings
        assert opened.model.processor.tokenizer.convert_tokens_to_ids("<image>") == known
        assert inputs.tensors["input_ids"].max() < known
        with pytest.raises(ExpressionError, match="<image>"):
            ask(opened, text="the <image> cup")


def test_a_page_becomes_tiles_and_a_thumbnail_last(tmp_path):
    opened = opens(QianfanOCRAdapter, tiny(tmp_path / "m", image_size=448, most=12, layers=1))
    known = {-1: (0.0, 0.0, 640.0, 480.0)}
    tiled(opened, (640, 480), (3, 4), (16, 16), known, last=["thumbnail"])
