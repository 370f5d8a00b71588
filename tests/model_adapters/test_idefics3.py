"""Idefics3 passes the public contract: tiles named in the text, the whole picture last."""

from functools import partial

import numpy as np
import pytest
import transformers as hf
from building import TOWER, save, text_part, vocabulary
from families import contract, opens, prompted, tiled, views

from vg_engine.model_adapters.families.idefics3 import Idefics3Adapter
from vg_engine.testing import Golden

# What transformers' own tests show of the Idefics3-8B template.
CHAT = (
    "<|begin_of_text|>{% for message in messages %}{{ message['role'] | capitalize }}"
    "{% if message['content'][0]['type'] == 'image' %}{{ ':' }}{% else %}{{ ': ' }}{% endif %}"
    "{% for line in message['content'] %}"
    "{% if line['type'] == 'text' %}{{ line['text'] }}{% else %}{{ '<image>' }}{% endif %}"
    "{% endfor %}<end_of_utterance>\n{% endfor %}"
    "{% if add_generation_prompt %}{{ 'Assistant:' }}{% endif %}"
)
FAKE = "<fake_token_around_image>"
WHOLE = f"{FAKE}<global-img><image>{FAKE}"
TILES = (
    f"{FAKE}<row_1_col_1><image>{FAKE}<row_1_col_2><image>\n"
    f"{FAKE}<row_2_col_1><image>{FAKE}<row_2_col_2><image>\n\n{WHOLE}"
)


def golden(picture: str) -> tuple[Golden, ...]:
    return (
        prompted(f"Look. {picture}\nthe cup.", form="bare", system="Look."),
        prompted(
            f"<|begin_of_text|>User:{picture}which cup?<end_of_utterance>\nAssistant:", "which cup?"
        ),
    )


def tiny(folder, *, side=112, across=2, split=True):
    """A tiny Idefics3; sides of 364 pixels, four across, are the real ones."""
    named = [FAKE, "<image>", "<end_of_utterance>", "<global-img>"]
    named += [f"<row_{row}_col_{col}>" for row in range(1, 5) for col in range(1, 5)]
    more = {"eos_token": "<end_of_utterance>"}
    tokenizer = vocabulary("bos=<|begin_of_text|> pad=<pad>", named, **more)
    sizes = {"size": {"longest_edge": across * side}, "max_image_size": {"longest_edge": side}}
    images = hf.Idefics3ImageProcessorPil(**sizes, do_image_splitting=split)
    length = (side // 28) ** 2
    processor = hf.Idefics3Processor(images, tokenizer, image_seq_len=length, chat_template=CHAT)
    config = hf.Idefics3Config(
        vision_config=hf.Idefics3VisionConfig(**TOWER, image_size=side, patch_size=14),
        text_config=hf.LlamaConfig(**text_part(tokenizer)),
        scale_factor=2,
        image_token_id=tokenizer.convert_tokens_to_ids("<image>"),
        pad_token_id=tokenizer.pad_token_id,
    )
    return save(hf.Idefics3ForConditionalGeneration, config, processor, folder)


FOREIGN = ("image_seq_len", 15, (16, 15))
TestIdefics3 = contract(Idefics3Adapter, golden(TILES), tiny)
TestWithoutSplitting = contract(
    Idefics3Adapter, golden(WHOLE), partial(tiny, split=False), foreign=FOREIGN
)


def test_a_photograph_is_enlarged_to_four_tiles_across(tmp_path):
    opened = opens(Idefics3Adapter, tiny(tmp_path / "m", side=364, across=4))
    known = {5: (160.0, 160.0, 320.0, 320.0), -1: (0.0, 0.0, 640.0, 480.0)}
    tiled(opened, (640, 480), (3, 4), (13, 13), known, last=["thumbnail"])


@pytest.mark.parametrize("resized", [True, False])
def test_every_shape_has_the_tiles_that_the_processor_makes(tmp_path, resized):
    """Shapes on either side of a further row: the rounding is the image processor's."""
    opened = opens(Idefics3Adapter, tiny(tmp_path / "m", side=56, across=4))
    opened.model.processor.image_processor.do_resize = resized
    generator = np.random.default_rng(0)
    seen = set()
    for _ in range(60):
        width, height = (int(n) for n in generator.integers(20, 224, 2))
        found = views(opened, (width, height))
        seen.add(found[-2].name if len(found) > 1 else "one")
    assert len(seen) >= 7
