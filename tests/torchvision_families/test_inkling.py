"""Inkling passes the public contract: no tower, biases by distance, layers with windows."""

import torch
import transformers as hf
from building import fields, processor_of, square, text_part, vocabulary
from families import contract, grids, opens, prompted

from vg_engine.model_adapters.families.inkling import InklingAdapter
from vg_engine.testing import paint
from vg_engine.testing.tiny import save_tiny
from vg_engine.testing.tiny_qwen import sharpen_norms

SHAPES = ((120, 120), (230, 110), (90, 210), (40, 60), (300, 270))
IMAGE, AUDIO = "<|unused_200054|>", "<|unused_200053|>"
IDS = {"image_token_id": IMAGE, "audio_token_id": AUDIO}
IDS |= fields("image_bos_token_id=<|content_image|> audio_bos_token_id=<|content_audio_input|>")
MARKS = (
    *("<|message_user|>", "<|message_model|>", "<|message_system|>", "<|end_message|>"),
    *("<|content_text|>", "<|content_image|>", "<|content_audio_input|>"),
)
# The marks are public; their order is from memory.
CHAT = (
    "{% for message in messages %}{% for content in message['content'] %}"
    "<|message_{{ message['role'] }}|>"
    "{% if content['type'] == 'image' %}<|content_image|>" + IMAGE + ""
    "{% else %}<|content_text|>{{ content['text'] }}{% endif %}<|end_message|>"
    "{% endfor %}{% endfor %}{% if add_generation_prompt %}<|message_model|>{% endif %}"
)
GOLDEN = (
    prompted(f"Look. <|content_image|>{IMAGE}\nthe cup.", form="bare", system="Look."),
    prompted(
        "<|message_system|><|content_text|>See.<|end_message|>"
        f"<|message_user|><|content_image|>{IMAGE}<|end_message|>"
        "<|message_user|><|content_text|>which cup?<|end_message|><|message_model|>",
        "which cup?",
        system="See.",
    ),
)


def tiny(folder, *, patch=24, layers=4, grow: float | None = None):
    """A tiny Inkling; patches of 40 are the real ones."""
    named = {"image_token": IMAGE, "audio_token": AUDIO}
    named |= {mark.strip("<|>"): mark for mark in MARKS}
    special = [*MARKS, IMAGE, AUDIO]
    tokenizer = vocabulary("pad=eos=<|endoftext|>", special, extra_special_tokens=named)
    images = hf.InklingImageProcessor(size=square(patch), rescale_image_frac=grow)
    processor = processor_of(hf.InklingProcessor, None, images, tokenizer, chat_template=CHAT)
    config = hf.InklingConfig(
        text_config=text_part(
            tokenizer,
            """head_dim=16 swa_num_attention_heads=4 swa_num_key_value_heads=2
                swa_head_dim=16 sliding_window_size=24 rel_extent=40 local_layer_ids=[0,2]
                moe_intermediate_size=32 n_routed_experts=4 num_experts_per_tok=2
                n_shared_experts=1""",
            layers=layers,
            mlp_layer_types=(["dense", "sparse"] * layers)[:layers],
        ),
        vision_config={"patch_size": patch, "hidden_size": 32, "num_hidden_layers": 3},
        audio_config={"n_mel_bins": 4, "mel_vocab_size": 8},
        **{name: tokenizer.convert_tokens_to_ids(token) for name, token in IDS.items()},
    )
    torch.manual_seed(0)
    module = hf.InklingForConditionalGeneration(config)
    sharpen_norms(module.get_decoder(), 3.0)
    for layer in module.get_decoder().layers:
        torch.nn.init.normal_(layer.self_attn.r_proj.weight)
    return save_tiny(module, processor, folder)


FOREIGN = ("image_processor.size", square(20), (16, 9))


class TestInkling(contract(InklingAdapter, GOLDEN, tiny, shapes=SHAPES, foreign=FOREIGN)):
    def unmix(self, opened):
        """Nothing mixes patches before the decoder does."""


def test_cells_of_an_enlarged_picture_lie_where_they_are_said_to_lie(tmp_path):
    opened = opens(InklingAdapter, tiny(tmp_path / "m", grow=1.3, layers=1))
    report = paint.probe(opened, paint.embeddings, [(120, 120), (101, 59), (50, 130)])
    opened.model.close()
    report.check()
    assert report.right == report.planned >= 10


# A photograph has one column more than fits.
test_real_patches = grids(
    InklingAdapter, tiny, ((640, 470), (12, 17), (0.0, 0.0, 680.0, 480.0)), patch=40, layers=1
)
