"""Janus passes the public contract where it looks at pictures; its drawing tower plays no part."""

import json
from dataclasses import replace
from functools import partial

import pytest
import torch
import transformers as hf
from building import fields, save, square, text_part, vocabulary
from families import ask, contract, opens, prompted, refuses, shows

from vg_engine.model_adapters.families.janus import JanusAdapter

IMAGE, BEGIN, STOP = "<image_placeholder>", "<begin_of_image>", "<end_of_image>"
# Renders what the template in transformers' converter does (compared).
CHAT = (
    "{% for message in messages %}"
    "{% if message['role'] == 'user' %}<|User|>: "
    "{% else %}{{ message['role'].capitalize() }}: {% endif %}"
    "{% for content in message['content'] %}"
    "{% if content['type'] == 'image' %}{{ '<image_placeholder>\n' }}"
    "{% else %}{{ content['text'] }}{% endif %}{% endfor %}"
    "{{ '\n\n' if message['role'] == 'user' else '<｜end▁of▁sentence｜>' }}{% endfor %}"
    "{% if add_generation_prompt %}<|Assistant|>:{% endif %}"
)
# The processor's own sentence.
SYSTEM = (
    "You are a helpful language and vision assistant. You are able to understand the visual "
    "content that the user provides, and assist the user with a variety of tasks using natural "
    "language.\n\n"
)
PICTURE = f"{BEGIN}{IMAGE}{STOP}"
GOLDEN = (
    prompted(f"{SYSTEM}{PICTURE}\nthe cup.", form="bare"),
    prompted(f"{SYSTEM}Look. {PICTURE}\nthe cup.", form="bare", system="Look."),
    prompted(f"{SYSTEM}<|User|>: {PICTURE}\nwhich cup?\n\n<|Assistant|>:", "which cup?"),
    prompted(
        f"{SYSTEM}System: See.<｜end▁of▁sentence｜><|User|>: {PICTURE}\nthe cup.\n\n<|Assistant|>:",
        system="See.",
    ),
)


def tiny(folder, *, side=96, layers=4, spoken=True):
    """A tiny Janus; 384 pixels make the real 24 x 24 cells."""
    named = {"image_token": IMAGE, "boi_token": BEGIN, "eoi_token": STOP}
    tokenizer = vocabulary("bos=<bos> eos=<eos> pad=<pad> <|User|> <|Assistant|>", named)
    length = (side // 16) ** 2
    images = hf.JanusImageProcessorPil(size=square(side))
    more = {"use_default_system_prompt": spoken, "num_image_tokens": length}
    processor = hf.JanusProcessor(images, tokenizer, chat_template=CHAT, **more)
    config = hf.JanusConfig(
        vision_config=hf.JanusVisionConfig(
            **fields("hidden_size=32 num_hidden_layers=2 num_attention_heads=4"),
            image_size=side,
            projection_dim=64,
            num_image_tokens=length,
        ),
        vq_config=hf.JanusVQVAEConfig(
            **fields("""num_embeddings=16 latent_channels=32 base_channels=32
                channel_multiplier=[1,1] num_res_blocks=1 projection_dim=64
                image_token_embed_dim=64""")
        ),
        text_config=hf.LlamaConfig(**text_part(tokenizer, layers=layers)),
        image_token_id=tokenizer.convert_tokens_to_ids(IMAGE),
    )
    return save(hf.JanusForConditionalGeneration, config, processor, folder)


class TestJanus(contract(JanusAdapter, GOLDEN, tiny)):
    def test_the_drawing_tower_plays_no_part(self, folder):
        opened = self.open(folder)
        inputs = ask(opened, (150, 90), "the cup")
        (before,) = opened.rows(inputs)
        base = opened.model.module.base_model
        for part in (base.vqmodel, base.generation_embeddings, base.generation_aligner):
            for parameter in part.parameters():
                parameter.data.fill_(float("nan"))
        (after,) = opened.rows(inputs)
        opened.model.close()
        assert torch.equal(before, after)


UNSPOKEN = [replace(each, text=each.text.removeprefix(SYSTEM)) for each in GOLDEN]
TestWithoutSystemSentence = contract(JanusAdapter, UNSPOKEN, partial(tiny, spoken=False))


def test_a_photograph_lies_in_the_middle_of_a_square(tmp_path):
    opened = opens(JanusAdapter, tiny(tmp_path / "m", side=384, layers=1))
    shows(opened, (480, 640), (24, 24), (-80.0, 0.0, 560.0, 640.0))
    refuses(opened, "num_image_tokens", 35, (576, 35))


@pytest.mark.parametrize("more", [{}, {"num_image_tokens": 576}])
def test_published_files_give_the_same_rows(tmp_path, same_rows, more):
    """As transformers' converter of 2025 wrote Janus-Pro: a head of its own beside the config."""

    def loose(weights):
        weights["lm_head.weight"] = weights["model.language_model.embed_tokens.weight"].flip(0)

    folder = tiny(tmp_path / "m", side=384, layers=1)
    stated = json.loads((folder / "processor_config.json").read_text(encoding="utf-8"))
    images = {**stated["image_processor"], "image_processor_type": "JanusImageProcessor"}
    del images["do_pad"]
    spoken = {"processor_class": "JanusProcessor", "use_default_system_prompt": True}

    def config(stated):
        stated.pop("tie_word_embeddings", None)

    settings = spoken | more
    same_rows(JanusAdapter, folder, images, settings=settings, config=config, add=loose)
