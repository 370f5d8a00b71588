"""SmolVLM passes the public contract, with tiles whose last pixels no patch holds."""

import pytest
import transformers as hf
from building import TOWER, edited, save, text_part, vocabulary
from families import ask, contract, opens, prompted, refuses, views
from transformers.models.smolvlm.processing_smolvlm import (
    DEFAULT_CHAT_TEMPLATE,
    get_image_prompt_string,
)

from vg_engine.model_adapters.families.idefics3 import Idefics3Adapter
from vg_engine.model_adapters.families.smolvlm import SmolVLMAdapter

FAKE = "<fake_token_around_image>"
WHOLE = f"{FAKE}<global-img><image>{FAKE}"
TILES = (
    f"{FAKE}<row_1_col_1><image>{FAKE}<row_1_col_2><image>\n"
    f"{FAKE}<row_2_col_1><image>{FAKE}<row_2_col_2><image>\n\n{WHOLE}"
)
GOLDEN = (
    prompted(f"Look. {TILES}\nthe cup.", form="bare", system="Look."),
    prompted(
        f"<|im_start|>System: See.<end_of_utterance>\nUser:{TILES}which cup?<end_of_utterance>\n"
        "Assistant:",
        "which cup?",
        system="See.",
    ),
)


def tiny(folder, *, side=132, patch=14, merge=3, across: int = 2):
    """A tiny SmolVLM: as in SmolVLM-Instruct (384, 14, 3), six pixels are left over."""
    named = [FAKE, "<image>", "<end_of_utterance>", "<global-img>"]
    named += [f"<row_{row}_col_{col}>" for row in range(1, 5) for col in range(1, 5)]
    more = {"eos_token": "<end_of_utterance>"}
    tokenizer = vocabulary("bos=<|im_start|> pad=<pad>", named, **more)
    sizes = {"size": {"longest_edge": across * side}, "max_image_size": {"longest_edge": side}}
    images = hf.SmolVLMImageProcessorPil(**sizes)
    more = {"image_seq_len": (side // patch // merge) ** 2, "chat_template": DEFAULT_CHAT_TEMPLATE}
    processor = hf.Idefics3Processor(images, tokenizer, **more)
    config = hf.SmolVLMConfig(
        vision_config=hf.SmolVLMVisionConfig(**TOWER, image_size=side, patch_size=patch),
        text_config=hf.LlamaConfig(**text_part(tokenizer)),
        scale_factor=merge,
        image_token_id=tokenizer.convert_tokens_to_ids("<image>"),
    )
    save(hf.SmolVLMForConditionalGeneration, config, processor, folder)
    # Files name the class that a real checkpoint names.
    for name in ("processor_config.json", "tokenizer_config.json"):
        text = (folder / name).read_text(encoding="utf-8")
        (folder / name).write_text(text.replace("Idefics3", "SmolVLM"), encoding="utf-8")
    return folder


class TestSmolVLM(contract(SmolVLMAdapter, GOLDEN, tiny)):
    def test_the_picture_becomes_what_its_own_processor_makes_of_it(self, opened):
        """That one needs the package num2words; its function for pictures does not."""
        rendered = ask(opened, (300, 140)).rendered[0]
        marks = {"fake_token_around_image": FAKE, "image_token": "<image>"}
        expected = get_image_prompt_string(1, 2, 9, global_image_token="<global-img>", **marks)
        assert f" {expected}\n" in rendered

    def test_the_last_pixels_of_a_tile_are_in_no_cell(self, opened):
        found = views(opened, (264, 264))
        assert found[0].shape == (3, 3)
        assert found[3].extent == pytest.approx((132.0, 132.0, 258.0, 258.0))
        assert found[-1].extent == pytest.approx((0.0, 0.0, 252.0, 252.0))


@pytest.mark.parametrize(
    ("side", "patch", "merge", "cells"), [(384, 14, 3, (9, 9)), (512, 16, 4, (8, 8))]
)
def test_real_tiles(tmp_path, side, patch, merge, cells):
    """SmolVLM-Instruct, and the 256M and 500M models."""
    folder = tiny(tmp_path / "m", side=side, patch=patch, merge=merge, across=4)
    found = views(opens(SmolVLMAdapter, folder), (640, 480))
    assert len(found) == 13
    assert {view.shape for view in found} == {cells}


def test_a_processor_that_does_not_belong_to_the_model_is_refused(tmp_path):
    opened = opens(SmolVLMAdapter, tiny(tmp_path / "m", across=1))
    refuses(opened, "image_seq_len", 8, (9, 8))


@pytest.mark.parametrize(
    ("adapter", "kind", "images"),
    [(Idefics3Adapter, "idefics3", "Idefics3"), (SmolVLMAdapter, "smolvlm_vision", "SmolVLM")],
)
def test_published_files_give_the_same_rows(
    tmp_path, published, change_of_rows, adapter, kind, images
):
    """HuggingFaceTB/SmolVLM-Instruct, an Idefics3 whose tower has the whole's type, and SmolVLM2,
    whose image processor's settings (seen on copies) speak of videos."""

    def config(stated):
        text = stated["text_config"]
        text |= {"rope_theta": text.pop("rope_parameters")["rope_theta"], "rope_scaling": None}
        text |= {"_name_or_path": "x", "pixel_shuffle_factor": 3, "use_resampler": False}
        stated["model_type"] = adapter.name
        stated["architectures"] = [f"{images}ForConditionalGeneration"]
        stated["vision_config"] |= {"model_type": kind, "size": {"longest_edge": 1536}}

    def rewrite(folder):
        stated = hf.SmolVLMImageProcessorPil(
            size={"longest_edge": 1536}, max_image_size={"longest_edge": 384}
        ).to_dict()
        stated["image_processor_type"] = f"{images}ImageProcessor"
        stated["video_sampling"] = {"fps": 1, "max_frames": 64, "video_size": {"longest_edge": 384}}
        settings = {"image_seq_len": 81, "processor_class": f"{images}Processor"}
        published(folder, stated, settings=settings, config=config)

    folder = tiny(tmp_path / "m", side=384, across=4)
    with edited(folder / "config.json") as stated:
        stated["model_type"] = adapter.name
        stated["vision_config"]["model_type"] = f"{adapter.name}_vision"
    assert change_of_rows(adapter, folder, rewrite, "chat") < 1e-6
