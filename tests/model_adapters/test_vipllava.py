"""ViP-LLaVA passes the public contract in both geometries; its template is the model card's."""

import pytest
import transformers as hf
from building import save, square, text_part, vision_part, vocabulary
from families import RENAMED, contract, opens, prompted, shows

from vg_engine.model_adapters.families.vipllava import VipLlavaAdapter

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


def tiny_vipllava(folder, *, side=112):
    tokenizer = vocabulary("pad=<pad> bos=<s> eos=</s>", ["<image>"])
    size = {"shortest_edge": side}
    images = hf.CLIPImageProcessorPil(size=size, crop_size=square(side))
    # Older files say nothing about patches: the adapter takes them from the config.
    processor = hf.LlavaProcessor(images, tokenizer, chat_template=CHAT)
    config = hf.VipLlavaConfig(
        vision_config=hf.CLIPVisionConfig(
            **vision_part("num_hidden_layers=4 patch_size=14", image_size=side)
        ),
        text_config=hf.LlamaConfig(**text_part(tokenizer)),
        vision_feature_layer=[-2, -3, 1],
        image_token_index=tokenizer.convert_tokens_to_ids("<image>"),
        image_seq_length=(side // 14) ** 2,
    )
    return save(hf.VipLlavaForConditionalGeneration, config, processor, folder)


FOREIGN = ("image_processor.crop_size", square(224), (256, 64))
GOLDEN = (
    prompted(f"{SYSTEM}###Human: <image>\nthe cup.", form="bare"),
    prompted("###Human: <image>\nthe cup.###Assistant:"),
    prompted("See.See.###Human: <image>\nthe cup.###Assistant:", system="See."),
)
TestVipLlava = contract(VipLlavaAdapter, GOLDEN, tiny_vipllava, foreign=FOREIGN)


PAD = {"geometry": "pad"}
TestPad = contract(VipLlavaAdapter, GOLDEN, tiny_vipllava, options=PAD, pytestmark=pytest.mark.slow)


@pytest.mark.parametrize(
    ("geometry", "extent"),
    [("crop", (80.0, 0.0, 560.0, 480.0)), ("pad", (0.0, -80.0, 640.0, 560.0))],
)
def test_the_real_grid_is_24_by_24(tmp_path, geometry, extent):
    folder = tiny_vipllava(tmp_path / "m", side=336)
    shows(opens(VipLlavaAdapter, folder, geometry=geometry), (640, 480), (24, 24), extent)


def test_published_files_give_the_same_rows(tmp_path, same_rows, clip):
    """llava-hf/vip-llava-7b-hf: what LLaVA-1.5's image processor states, and nothing else."""
    folder = tiny_vipllava(tmp_path / "m", side=336)
    same_rows(VipLlavaAdapter, folder, clip, renamed=RENAMED)
