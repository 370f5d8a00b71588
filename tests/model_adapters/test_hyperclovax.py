"""HyperCLOVA X SEED Think passes the public contract, under its new type and its old one."""

import transformers as hf
from building import edited, fields, save, text_part
from families import VICUNA, chatml, contract, prompted, rows_of

from vg_engine.model_adapters.families.hyperclovax import HyperCLOVAXAdapter
from vg_engine.testing.tiny_qwen import CHAT, qwen_processor, qwen_tokenizer

PICTURE = "<|image_start|><|IMAGE_PAD|><|image_end|>"
ANSWER = "<|im_start|>assistant\n<think>\n"
PARTS = ("<|image_start|>", "<|image_end|>", "<|IMAGE_PAD|>", "<|VIDEO_PAD|>")
# The picture's tokens were looked up; the turns are from memory, and so is the open thinking.
TEMPLATE = (
    CHAT.replace("<|vision_start|><|image_pad|><|vision_end|>", PICTURE)
    + "{% if add_generation_prompt %}{{ '<think>\n' }}{% endif %}"
)


def tiny_hyperclovax(folder):
    tokenizer = qwen_tokenizer((*PARTS, "<think>"))
    image, video = tokenizer.convert_tokens_to_ids(["<|IMAGE_PAD|>", "<|VIDEO_PAD|>"])
    config = hf.HyperCLOVAXVisionV2Config(
        text_config=text_part(
            tokenizer,
            """model_type=hyperclovax attention_multiplier=0.2 residual_multiplier=0.9
            embedding_multiplier=2.0""",
        ),
        vision_config=fields("""model_type=qwen2_5_vl_vision depth=2 hidden_size=32
                intermediate_size=64 num_heads=4 out_hidden_size=48 window_size=56
                fullatt_block_indexes=[1]"""),
        image_token_id=image,
        video_token_id=video,
    )
    processor = qwen_processor(hf.HyperCLOVAXVisionV2Processor, tokenizer, chat=TEMPLATE)
    return save(hf.HyperCLOVAXVisionV2ForConditionalGeneration, config, processor, folder)


BARE = prompted(f"{VICUNA} {PICTURE}\nthe cup.", form="bare")
ASKED = prompted(chatml(f"{PICTURE}the cup.", answer=ANSWER))
TestHyperCLOVAX = contract(HyperCLOVAXAdapter, (BARE, ASKED), tiny_hyperclovax)


def test_the_old_type_is_told_by_its_parts(tmp_path):
    folder = tiny_hyperclovax(tmp_path / "old")
    expected = rows_of(HyperCLOVAXAdapter, folder)
    with edited(folder / "config.json") as config:
        config["model_type"] = "vlm"
        config["vision_config"]["model_type"] = "qwen2_5_vl"
    assert HyperCLOVAXAdapter.claims(config)
    assert not HyperCLOVAXAdapter.claims({"model_type": "vlm", "text_config": None})
    assert (rows_of(HyperCLOVAXAdapter, folder) - expected).abs().max() < 1e-6
