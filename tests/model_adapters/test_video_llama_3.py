"""VideoLLaMA 3 passes the public contract: a token per patch, or per square of averaged ones."""

import transformers as hf
from building import save, text_part, vision_part
from families import FIND, VICUNA, chatml, contract, opens, prompted, refuses, shows

from vg_engine.model_adapters.families.video_llama_3 import VideoLlama3Adapter
from vg_engine.testing.tiny_qwen import qwen_processor, qwen_tokenizer, token_ids

SYSTEM = "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n"
# Turns and placeholder as in public code that runs lkhl/VideoLLaMA3; the system from memory.
CHAT = (
    "{% for message in messages %}{% if loop.first and message['role'] != 'system' %}"
    "{{ '<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n' }}{% endif %}"
    "{{ '<|im_start|>' + message['role'] + '\n' }}"
    "{% for content in message['content'] %}{% if content['type'] == 'image' %}"
    "{{ '<|image_pad|>\n' }}{% elif 'text' in content %}{{ content['text'] }}{% endif %}"
    "{% endfor %}{{ '<|im_end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
IDS = (262, 198, 86, 71, 72, 66, 71, 220, 66, 84, 79, 30)
GOLDEN = (
    prompted(f"{VICUNA} <|image_pad|>\nthe cup.", form="bare"),
    prompted("<|image_pad|>\nwhich cup?", "which cup?", form="bare", system="", ids=IDS),
    prompted(SYSTEM + chatml("<|image_pad|>\nthe cup.")),
    prompted(chatml("<|image_pad|>\nFind the cup.\nNow", "See."), **FIND),
)


def tiny_video_llama(folder, tokens=(1, 24), merge=1):
    """14 pixels per patch, as the real ones have; `tokens` are counted by four patches."""
    tokenizer = qwen_tokenizer()
    config = hf.VideoLlama3Config(
        text_config=text_part(tokenizer, "model_type=qwen2"),
        vision_config=vision_part("patch_size=14"),
        **token_ids(tokenizer, ("<|image_pad|>", "<|video_pad|>")),
    )
    images = {"image_class": hf.VideoLlama3ImageProcessorPil, "merge_size": merge, "tokens": tokens}
    processor = qwen_processor(hf.VideoLlama3Processor, tokenizer, chat=CHAT, **images)
    return save(hf.VideoLlama3ForConditionalGeneration, config, processor, folder)


TestVideoLlama3 = contract(VideoLlama3Adapter, GOLDEN, tiny_video_llama)


class TestVideoLlama3Merged(TestVideoLlama3):
    """Squares of patches are averaged, as films' are."""

    def build(self, folder):
        tiny_video_llama(folder, tokens=(1, 48), merge=2)


def test_a_photograph_has_a_token_per_patch(tmp_path):
    opened = opens(VideoLlama3Adapter, tiny_video_llama(tmp_path / "real", tokens=(4, 1280)))
    assert opened.model.statements == ("A picture becomes up to 5120 tokens of 14 x 14 pixels.",)
    shows(opened, (640, 480), (34, 46))
    refuses(opened, "image_processor.merge_size", 2, (100, 400), (280, 280), "10 x 10")
