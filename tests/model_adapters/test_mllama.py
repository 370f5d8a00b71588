"""Mllama passes the public contract: its picture is on the keys of cross-attention layers."""

import json

import pytest
import torch
import transformers as hf
from building import fields, text_part, vocabulary
from families import VICUNA, ask, contract, opens, prompted, refuses

from vg_engine.model_adapters.families.mllama import MllamaAdapter
from vg_engine.testing.tiny import save_tiny

CROSS = (1, 3, 5)
# What Meta's template writes for a question about one picture; it refuses a system sentence.
CHAT = (
    "{{ bos_token }}{% for message in messages %}{% if message['role'] == 'system' %}"
    "{{ raise_exception('Prompting with images is incompatible with system messages.') }}"
    "{% endif %}{{ '<|start_header_id|>' + message['role'] + '<|end_header_id|>\n\n' }}"
    "{% for content in message['content'] %}"
    "{% if content['type'] == 'image' %}<|image|>{% else %}{{ content['text'] }}{% endif %}"
    "{% endfor %}{{ '<|eot_id|>' }}{% endfor %}{% if add_generation_prompt %}"
    "{{ '<|start_header_id|>assistant<|end_header_id|>\n\n' }}{% endif %}"
)
TURN = "<|begin_of_text|><|start_header_id|>user<|end_header_id|>\n\n<|image|>"
ANSWER = "<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\n"
GOLDEN = (
    prompted(f"<|image|><|begin_of_text|>{VICUNA}\nthe cup.", form="bare"),
    prompted(f"{TURN}which cup?{ANSWER}", "which cup?"),
)


def tiny_mllama(folder, *, tile=56, layers=6):
    """A tiny checkpoint with patches of 14 pixels and up to four tiles."""
    special = ["<|begin_of_text|>", "<|eot_id|>", "<|finetune_right_pad_id|>"]
    named = ["<|start_header_id|>", "<|end_header_id|>", "<|python_tag|>", "<|image|>"]
    tokenizer = vocabulary(
        "",
        [*special, *named],
        bos_token=special[0],
        eos_token=special[1],
        pad_token=special[2],
        extra_special_tokens=["<|image|>"],
    )
    images = hf.MllamaImageProcessorPil(size={"height": tile, "width": tile}, max_image_tiles=4)
    processor = hf.MllamaProcessor(images, tokenizer, chat_template=CHAT)
    config = hf.MllamaConfig(
        text_config=text_part(
            tokenizer,
            layers=layers,
            cross_attention_layers=[layer for layer in CROSS if layer < layers],
        ),
        vision_config={
            "image_size": tile,
            **fields("""patch_size=14 hidden_size=32 intermediate_size=64 num_hidden_layers=3
                num_global_layers=1 attention_heads=4 intermediate_layers_indices=[1,2]
                vision_output_dim=96 max_num_tiles=4"""),
        },
        image_token_index=tokenizer.convert_tokens_to_ids("<|image|>"),
    )
    torch.manual_seed(0)
    module = hf.MllamaForConditionalGeneration(config)
    for name, parameter in module.named_parameters():
        # Queries and keys are normed here, so projections cannot sharpen; gates open at zero.
        if "cross_attn.q_norm" in name or "cross_attn.k_norm" in name:
            parameter.data.mul_(3.5)
        if "gate" in name and parameter.numel() == 1:
            parameter.data.fill_(0.5)
    return save_tiny(module, processor, folder, sharpness=4.0)


TestMllama = contract(MllamaAdapter, GOLDEN, tiny_mllama)


@pytest.fixture(scope="module")
def opened(tmp_path_factory):
    folder = tmp_path_factory.mktemp("mllama") / "tiny"
    return opens(MllamaAdapter, tiny_mllama(folder, tile=560, layers=2))


def test_a_photograph_becomes_tiles_of_40_by_40_cells(opened):
    inputs = ask(opened, (640, 480))
    views = opened.views(inputs)[0]
    assert opened.model.map_layers == (1,)
    assert [view.name for view in views] == ["tile 0,0", "tile 0,1"]
    assert {view.shape for view in views} == {(40, 40)}
    # Each tile begins with its class token.
    assert [int(view.positions[0, 0]) for view in views] == [1, 1602]
    # It is not resized, but filled up on the right and below.
    assert views[0].extent == pytest.approx((0.0, 0.0, 560.0, 560.0))
    assert views[1].extent == pytest.approx((560.0, 0.0, 1120.0, 560.0))


def test_a_processor_that_does_not_belong_to_the_model_is_refused(opened):
    refuses(opened, "image_processor.size", {"height": 16, "width": 16}, (6404, 1601))


def test_published_files_give_the_same_rows(tmp_path, published, change_of_rows):
    """meta-llama/Llama-3.2-11B-Vision-Instruct: no processor's name anywhere, Llama 3's rotation.

    Its template, rendered from copies, writes for a question about one picture what ours does;
    the settings are from memory.
    """
    rope = fields("""factor=8.0 high_freq_factor=4.0 low_freq_factor=1.0
            original_max_position_embeddings=8192 rope_type=llama3""")

    def config(stated):
        text = stated["text_config"]
        del text["rope_parameters"]
        text |= {"rope_scaling": rope, "rope_theta": 500000.0}

    def rewrite(folder):
        images = hf.MllamaImageProcessorPil(size={"height": 560, "width": 560}).to_dict()
        images["image_processor_type"] = "MllamaImageProcessor"
        published(folder, images, config=config)

    folder = tiny_mllama(tmp_path / "m", tile=560, layers=2)
    stated = json.loads((folder / "config.json").read_text())
    stated["text_config"]["rope_parameters"].update(rope)
    (folder / "config.json").write_text(json.dumps(stated))
    assert change_of_rows(MllamaAdapter, folder, rewrite, "chat") < 1e-6
