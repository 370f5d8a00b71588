"""ViP-LLaVA passes the public contract in both geometries; its template is the model card's."""

from typing import Any, ClassVar

import pytest
import transformers as hf
from building import fields, save, text_part, vocabulary
from families import ask, checkpoint, contract, opens, prompted

from vg_engine.model_adapters.families.vipllava import VipLlavaAdapter
from vg_engine.testing.tiny import BOS, EOS, PAD

SYSTEM = (
    "A chat between a curious human and an artificial intelligence assistant. The assistant gives "
    "helpful, detailed, and polite answers to the human's questions."
)
# As the script that wrote the template of llava-hf/vip-llava-7b-hf has it (a copy; that file itself
# was not seen): without the model card's sentence, and with a user's own system sentence twice.
CHAT = (
    "{% for message in messages %}{% if message['role'] == 'user' %}###Human: "
    "{% else %}{{ message['content'][0]['text'] }}{% endif %}"
    "{% for content in message['content'] %}{% if content['type'] == 'image' %}<image>\n"
    "{% else %}{{ content['text'] }}{% endif %}{% endfor %}{% endfor %}"
    "{% if add_generation_prompt %}###Assistant:{% endif %}"
)


def tiny_vipllava(folder, *, side=112, size: int | None = None):
    tokenizer = vocabulary(f"pad={PAD} bos={BOS} eos={EOS}", ["<image>"])
    shown = size or side
    processor_class: Any = hf.LlavaProcessor
    # Older files say nothing about patches: the adapter takes them from the config.
    processor = processor_class(
        image_processor=hf.CLIPImageProcessorPil(
            size={"shortest_edge": shown}, crop_size={"height": shown, "width": shown}
        ),
        tokenizer=tokenizer,
        chat_template=CHAT,
    )
    config = hf.VipLlavaConfig(
        vision_config=hf.CLIPVisionConfig(
            **fields("""hidden_size=32 intermediate_size=64 num_hidden_layers=4
                num_attention_heads=4"""),
            image_size=side,
            patch_size=14,
        ),
        text_config=hf.LlamaConfig(**text_part(tokenizer)),
        vision_feature_layer=[-2, -3, 1],
        image_token_index=tokenizer.convert_tokens_to_ids("<image>"),
        image_seq_length=(side // 14) ** 2,
    )
    return save(hf.VipLlavaForConditionalGeneration, config, processor, folder)


TestVipLlava = contract(
    VipLlavaAdapter,
    (
        prompted(f"{SYSTEM}###Human: <image>\nthe cup.", form="bare"),
        prompted("###Human: <image>\nthe cup.###Assistant:"),
        prompted("See.See.###Human: <image>\nthe cup.###Assistant:", system="See."),
    ),
    tiny_vipllava,
    foreign=("image_processor.crop_size", {"height": 224, "width": 224}, (256, 64)),
)


class TestPad(TestVipLlava):
    options: ClassVar = {"geometry": "pad"}


real = checkpoint(tiny_vipllava, side=336)


@pytest.mark.parametrize(
    ("geometry", "extent"),
    [("crop", (80.0, 0.0, 560.0, 480.0)), ("pad", (0.0, -80.0, 640.0, 560.0))],
)
def test_the_real_grid_is_24_by_24(real, geometry, extent):
    opened = opens(VipLlavaAdapter, real, geometry=geometry)
    inputs = ask(opened, (640, 480))
    (view,) = opened.views(inputs)[0]
    assert view.shape == (24, 24)
    assert view.extent == extent


def test_published_files_give_the_same_rows(tmp_path, same_rows, clip):
    """llava-hf/vip-llava-7b-hf: what LLaVA-1.5's image processor states, and nothing else."""

    folder = tiny_vipllava(tmp_path / "m", side=336)
    same_rows(
        VipLlavaAdapter,
        folder,
        clip,
        renamed=[(r"^vision_tower\.", "vision_tower.vision_model.")],
        form="chat",
    )
