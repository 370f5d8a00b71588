"""Mllama passes the public contract: its picture is on the keys of cross-attention layers."""

import torch
import transformers as hf
from building import edited, fields, scale, square, text_part, vocabulary
from families import VICUNA, contract, opens, prompted, refuses, tiled

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
    named = ["<|start_header_id|>", "<|end_header_id|>", "<|python_tag|>", "<|image|>"]
    special = "bos=<|begin_of_text|> eos=<|eot_id|> pad=<|finetune_right_pad_id|>"
    tokenizer = vocabulary(special, named, extra_special_tokens=["<|image|>"])
    images = hf.MllamaImageProcessorPil(size=square(tile), max_image_tiles=4)
    processor = hf.MllamaProcessor(images, tokenizer, chat_template=CHAT)
    cross = [layer for layer in CROSS if layer < layers]
    config = hf.MllamaConfig(
        text_config=text_part(tokenizer, layers=layers, cross_attention_layers=cross),
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
    # Queries and keys are normed here, so projections cannot sharpen; gates open at zero.
    scale(module, 3.5, "cross_attn.q_norm.weight", "cross_attn.k_norm.weight")
    for name, parameter in module.named_parameters():
        if "gate" in name and parameter.numel() == 1:
            parameter.data.fill_(0.5)
    return save_tiny(module, processor, folder, sharpness=4.0)


TestMllama = contract(MllamaAdapter, GOLDEN, tiny_mllama)


def test_a_photograph_becomes_tiles_of_40_by_40_cells(tmp_path):
    opened = opens(MllamaAdapter, tiny_mllama(tmp_path / "tiny", tile=560, layers=2))
    assert opened.model.map_layers == (1,)
    # It is not resized, but filled up on the right and below.
    known = {0: (0.0, 0.0, 560.0, 560.0), 1: (560.0, 0.0, 1120.0, 560.0)}
    found = tiled(opened, (640, 480), (1, 2), (40, 40), known)
    # Each tile begins with its class token.
    assert [int(view.positions[0, 0]) for view in found] == [1, 1602]
    refuses(opened, "image_processor.size", square(16), (6404, 1601))


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
        images = hf.MllamaImageProcessorPil(size=square(560)).to_dict()
        images["image_processor_type"] = "MllamaImageProcessor"
        published(folder, images, config=config)

    folder = tiny_mllama(tmp_path / "m", tile=560, layers=2)
    with edited(folder / "config.json") as stated:
        stated["text_config"]["rope_parameters"].update(rope)
    assert change_of_rows(MllamaAdapter, folder, rewrite, "chat") < 1e-6
