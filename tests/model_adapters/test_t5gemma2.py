"""T5Gemma 2 passes the public contract with the heads of its encoder."""

import torch
import transformers as hf
from building import chat, fields, reading, siglip, square, text_part, vocabulary
from families import VICUNA, contract, opens, prompted, refuses, shows

from vg_engine.model_adapters.families.t5gemma2 import T5Gemma2Adapter
from vg_engine.testing.tiny import save_tiny
from vg_engine.testing.tiny_qwen import sharpen_norms

# The published models are pretrained only and have no template: this one is for the contract.
CHAT = chat("", "<start_of_image>", "", opening="{{ bos_token }}")
PICTURE = "\n\n<start_of_image><image_soft_token><end_of_image>\n\n"
GOLDEN = (
    prompted(f"{VICUNA} {PICTURE}\nthe cup.", form="bare"),
    prompted(f"<bos>{PICTURE}which cup?", "which cup?"),
)


def tiny_t5gemma2(folder, *, side=112):
    """A tiny checkpoint: patches of 14 pixels, pooled 2 x 2."""
    named = fields("""image_token=<image_soft_token> boi_token=<start_of_image>
        eoi_token=<end_of_image>""")
    tokenizer = vocabulary("pad=<pad> eos=<eos> bos=<bos>", named)
    tokens = (side // 28) ** 2
    images = hf.Gemma3ImageProcessorPil(size=square(side))
    processor = hf.Gemma3Processor(images, tokenizer, chat_template=CHAT, image_seq_length=tokens)
    # A window that ends inside the picture.
    text = text_part(tokenizer, "head_dim=16 query_pre_attn_scalar=16 sliding_window=24")
    text["layer_types"] = ["sliding_attention", "full_attention"] * 2
    config = hf.T5Gemma2Config(
        encoder={
            "text_config": text,
            "vision_config": siglip(side).to_dict(),
            "mm_tokens_per_image": tokens,
            "boi_token_index": tokenizer.boi_token_id,
            "eoi_token_index": tokenizer.eoi_token_id,
        },
        decoder=text,
        image_token_index=tokenizer.image_token_id,
    )
    torch.manual_seed(0)
    module = hf.T5Gemma2ForConditionalGeneration(config)
    encoder = module.model.encoder
    torch.nn.init.normal_(encoder.multi_modal_projector.mm_input_projection_weight, std=0.1)
    sharpen_norms(encoder.text_model, 1.7)
    return save_tiny(module, processor, folder, sharpness=1.0)


READING = reading(hf.T5Gemma2ForConditionalGeneration)
TestT5Gemma2 = contract(T5Gemma2Adapter, GOLDEN, tiny_t5gemma2, load_plain=READING)


def test_a_photograph_is_squashed_to_a_square(tmp_path):
    opened = opens(T5Gemma2Adapter, tiny_t5gemma2(tmp_path / "tiny"))
    shows(opened, (640, 480), (4, 4))
    assert "encoder's" in opened.model.statements[-1]
    refuses(opened, "module.config.encoder.mm_tokens_per_image", 4, (4, 16), (640, 480))
