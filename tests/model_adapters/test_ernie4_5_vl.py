"""ERNIE-4.5-VL and PaddleOCR-VL pass the public contract: merged patches, ERNIE decoders."""

import pytest
import transformers as hf
from building import QWEN_TOWER, fields, save, text_part, vision_part, vocabulary
from families import ARRAYS, VICUNA, contract, opens, prompted, refuses, shows, views

from vg_engine.model_adapters.families.ernie4_5_vl import ErnieVLAdapter
from vg_engine.model_adapters.families.paddleocr_vl import PaddleOCRVLAdapter
from vg_engine.testing.tiny_qwen import qwen_processor

pytestmark = ARRAYS
OPEN, BARE = "<|begin_of_sentence|>", {"form": "bare"}
NAMED = fields("""image_start=<|IMAGE_START|> image=<|IMAGE_PLACEHOLDER|>
        image_end=<|IMAGE_END|> video_start=<|VIDEO_START|> video=<|VIDEO_PLACEHOLDER|>
        video_end=<|VIDEO_END|>""")
PICTURE = "<|IMAGE_START|><|IMAGE_PLACEHOLDER|><|IMAGE_END|>"
# transformers' conversion script writes this template; thinking is off unless it is asked for.
ERNIE_CHAT = (
    "{% set count = namespace(value=0) %}{{ '<|begin_of_sentence|>' }}"
    "{% for message in messages %}{% if message.role == 'user' %}{{ 'User: ' }}{% endif %}"
    "{% if message.content is string %}{{ message.content }}{% else %}"
    "{% for item in message.content %}{% if item.type == 'text' %}{{ item.text }}"
    "{% elif item.type == 'image' %}{% set count.value = count.value + 1 %}"
    "Picture {{ count.value }}:" + PICTURE + "{% endif %}{% endfor %}{% endif %}"
    "{% if message.role == 'system' %}{{ '\n' }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}{{ '\nAssistant: <think>\n\n</think>\n\n' }}{% endif %}"
)
# Looked up on a copy of PaddlePaddle/PaddleOCR-VL's template: pictures first, then the text.
PADDLE_CHAT = (
    "{{ '<|begin_of_sentence|>' }}{% for message in messages %}"
    "{% if message['role'] == 'user' %}{{ 'User: ' }}{% for content in message['content'] %}"
    "{% if content['type'] == 'image' %}" + PICTURE + "{% endif %}{% endfor %}"
    "{% for content in message['content'] %}{% if content['type'] == 'text' %}"
    "{{ content['text'] }}{% endif %}{% endfor %}{{ '\n' }}"
    "{% elif message['role'] == 'system' %}{% for content in message['content'] %}"
    "{{ content['text'] + '\n' }}{% endfor %}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}{{ 'Assistant: ' }}{% endif %}"
)
NOW = {"template": "Find {expression} now", "system": "See."}
THOUGHT = "\nAssistant: <think>\n\n</think>\n\n"


def goldens(picture, answer, of_system):
    """The families' prompts differ in how a picture is announced and where answers begin."""
    return (
        prompted(f"{OPEN}{VICUNA} {picture}\nthe cup.", **BARE),
        prompted(f"{OPEN} {picture}\nwhich cup?", "which cup?", system="", ids=of_system, **BARE),
        # A full stop and the newline of the template behind it are one token.
        prompted(f"{OPEN}User: {picture}the cup.{answer}", rows=(256,)),
        prompted(f"{OPEN}See.\nUser: {picture}Find the cup. now{answer}", **NOW),
    )


def tokenizer():
    named = {f"{name}_token": token for name, token in NAMED.items()}
    return vocabulary(f"pad=unk=<unk> bos=<s> eos=</s> cls={OPEN}", named, merges=((".", "Ċ"),))


class _ErnieProcessor(hf.Ernie4_5_VLMoeProcessor):
    """Saved as any other: the real one looks for the font of its video part."""

    save_pretrained = hf.ProcessorMixin.save_pretrained


_ErnieProcessor.__name__ = "Ernie4_5_VLMoeProcessor"


def tiny_ernie(folder, tokens=(1, 48)):
    """28 pixels per token, as the real one has; the first layer is dense, the others are not."""
    letters = tokenizer()
    rope = {"rope_type": "default", "rope_theta": 500000.0, "mrope_section": [3, 3, 2]}
    config = hf.Ernie4_5_VLMoeConfig(
        text_config=text_part(
            letters, "moe_intermediate_size=[32,16] moe_num_experts=4 moe_k=2", rope_parameters=rope
        ),
        vision_config=dict(QWEN_TOWER),
        **{f"{n}_token_id": letters.convert_tokens_to_ids(token) for n, token in NAMED.items()},
    )
    images = {"image_class": hf.Ernie4_5_VLMoeImageProcessorPil, "tokens": tokens}
    processor = qwen_processor(_ErnieProcessor, letters, chat=ERNIE_CHAT, **images)
    return save(hf.Ernie4_5_VLMoeForConditionalGeneration, config, processor, folder)


def tiny_paddle(folder, tokens=(1, 48)):
    """28 pixels per token, as the real one has."""
    letters = tokenizer()
    rope = {"rope_type": "default", "rope_theta": 500000.0, "mrope_section": [2, 3, 3]}
    config = hf.PaddleOCRVLConfig(
        text_config=text_part(letters, "head_dim=16", rope_parameters=rope),
        vision_config=vision_part("image_size=112"),
        **{f"{n}_token_id": getattr(letters, f"{n}_token_id") for n in ("image", "video")},
        vision_start_token_id=letters.image_start_token_id,
        vision_end_token_id=letters.image_end_token_id,
    )
    images = {"image_class": hf.PaddleOCRVLImageProcessorPil, "tokens": tokens}
    processor = qwen_processor(hf.PaddleOCRVLProcessor, letters, chat=PADDLE_CHAT, **images)
    return save(hf.PaddleOCRVLForConditionalGeneration, config, processor, folder)


TestErnieVL = contract(ErnieVLAdapter, goldens(f"Picture 1:{PICTURE}", THOUGHT, None), tiny_ernie)
OF_SYSTEM = (260, 220, 261, 262, 263, 198, 86, 71, 72, 66, 71, 220, 66, 84, 79, 30)
TestPaddleOCRVL = contract(
    PaddleOCRVLAdapter, goldens(PICTURE, "\nAssistant: ", OF_SYSTEM), tiny_paddle
)


@pytest.mark.parametrize(
    ("adapter", "build", "tokens", "small"),
    [
        # 56 x 56 to 28 x 28 x 6177 pixels: the family's image processor.
        (ErnieVLAdapter, tiny_ernie, (4, 6177), (3, 2)),
        # 147384 to 2822400 pixels: the real preprocessor_config.json.
        (PaddleOCRVLAdapter, tiny_paddle, (188, 3600), (17, 12)),
    ],
)
def test_real_limits_make_the_known_number_of_tokens(tmp_path, adapter, build, tokens, small):
    opened = opens(adapter, build(tmp_path / "real", tokens))
    shows(opened, (640, 480), (17, 23))
    assert views(opened, (40, 56))[0].shape == small
    refuses(opened, "image_processor.merge_size", 1, (None, None), (280, 280))


def test_published_files_give_the_same_rows(tmp_path, same_rows):
    """PaddlePaddle/PaddleOCR-VL (seen on copies): the text part's settings by the side of the
    others, limits in pixels, and code of its own that is left alone. (Its mean and deviation are
    0.5: those of the tiny one stand here.)"""

    def config(stated):
        text = stated.pop("text_config")
        rope = text.pop("rope_parameters")
        del text["model_type"]
        stated |= text | {"rope_theta": rope["rope_theta"], "use_3d_rope": True}
        kind = {"rope_type": "default", "type": "default"}
        stated["rope_scaling"] = {"mrope_section": rope["mrope_section"], **kind}
        stated["auto_map"] = {"AutoConfig": "configuration_paddleocr_vl.PaddleOCRVLConfig"}
        stated["vision_config"]["model_type"] = "paddleocr_vl"
        stated["vision_config"].pop("rope_parameters", None)

    code = {
        "AutoImageProcessor": "image_processing_paddleocr_vl.PaddleOCRVLImageProcessor",
        "AutoProcessor": "processing_paddleocr_vl.PaddleOCRVLProcessor",
    }
    stated = fields("""do_convert_rgb=true do_normalize=true do_rescale=true do_resize=true
        image_mean=[0.48145466,0.4578275,0.40821073] image_processor_type=PaddleOCRVLImageProcessor
        image_std=[0.26862954,0.26130258,0.27577711] max_pixels=2822400 merge_size=2
        min_pixels=147384 patch_size=14 processor_class=PaddleOCRVLProcessor resample=3
        rescale_factor=0.00392156862745098 temporal_patch_size=1""")
    folder = tiny_paddle(tmp_path / "m", (188, 3600))
    same_rows(PaddleOCRVLAdapter, folder, {"auto_map": code, **stated}, config=config)
