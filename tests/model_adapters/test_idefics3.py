"""Idefics3 passes the public contract: tiles named in the text, the whole picture last."""

import numpy as np
import pytest
import transformers as hf
from building import TOWER, fields, save, text_part
from families import contract, loaded, opens, prompted, refuses, views

from vg_engine.model_adapters.families.idefics3 import Idefics3Adapter
from vg_engine.testing import Golden
from vg_engine.testing.tiny import byte_tokenizer

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
    special = ["<|begin_of_text|>", "<pad>", FAKE, "<image>", "<end_of_utterance>", "<global-img>"]
    special += [f"<row_{row}_col_{col}>" for row in range(1, 5) for col in range(1, 5)]
    tokenizer = byte_tokenizer(
        special,
        bos_token=special[0],
        **fields("pad_token=<pad> eos_token=<end_of_utterance> padding_side=left"),
        extra_special_tokens=special[2:],
    )
    images = hf.Idefics3ImageProcessorPil(
        size={"longest_edge": across * side},
        max_image_size={"longest_edge": side},
        do_image_splitting=split,
    )
    processor = hf.Idefics3Processor(
        images, tokenizer, image_seq_len=(side // 28) ** 2, chat_template=CHAT
    )
    config = hf.Idefics3Config(
        vision_config=hf.Idefics3VisionConfig(**TOWER, image_size=side, patch_size=14),
        text_config=hf.LlamaConfig(**text_part(tokenizer)),
        scale_factor=2,
        image_token_id=tokenizer.convert_tokens_to_ids("<image>"),
        pad_token_id=tokenizer.pad_token_id,
    )
    return save(hf.Idefics3ForConditionalGeneration, config, processor, folder)


TestIdefics3 = contract(Idefics3Adapter, golden(TILES), tiny)
TestWithoutSplitting = contract(
    Idefics3Adapter, golden(WHOLE), lambda folder: tiny(folder, split=False)
)
opened = loaded(Idefics3Adapter, tiny, side=364, across=4)


def test_a_photograph_is_enlarged_to_four_tiles_across(opened):
    found = views(opened, (640, 480))
    names = [f"tile {row},{col}" for row in range(3) for col in range(4)]
    assert [view.name for view in found] == [*names, "thumbnail"]
    assert {view.shape for view in found} == {(13, 13)}
    assert found[5].extent == pytest.approx((160.0, 160.0, 320.0, 320.0))
    assert found[-1].extent == pytest.approx((0.0, 0.0, 640.0, 480.0))


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


def test_a_processor_that_does_not_belong_to_the_model_is_refused(tmp_path):
    opened = opens(Idefics3Adapter, tiny(tmp_path / "m", split=False))
    refuses(opened, "image_seq_len", 15, (16, 15))
