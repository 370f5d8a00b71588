"""Aya Vision passes the public contract: named tiles, and layers that see a window."""

import pytest
import transformers as hf
from building import TOWER, chat, fields, save, text_part
from families import checkpoint, contract, opens, prompted, sees_a_window, views

from vg_engine.model_adapters.families.aya_vision import AyaVisionAdapter
from vg_engine.testing.tiny import byte_tokenizer

# Shorter than most sequences here, so that three of four layers do not see the first tiles.
WINDOW = 40
TURN, USER, BOT = "<|START_OF_TURN_TOKEN|>", "<|USER_TOKEN|>", "<|CHATBOT_TOKEN|>"
# The turns are those of public prompts for aya-vision-8b; the system turn is from memory.
CHAT = chat(
    TURN + "{{ {'user': '<|USER_TOKEN|>', 'system': '<|SYSTEM_TOKEN|>'}[message['role']] }}",
    "<image>",
    "<|END_OF_TURN_TOKEN|>",
    answer="<|START_OF_TURN_TOKEN|><|CHATBOT_TOKEN|>",
    opening="{{ bos_token }}",
)
GOLDEN = (
    prompted(
        "Look. <|START_OF_IMG|>TILE_GLOBAL<|IMG_PATCH|><|END_OF_IMG|>\nthe cup.",
        form="bare",
        system="Look.",
    ),
    prompted(
        "<BOS_TOKEN><|START_OF_TURN_TOKEN|><|SYSTEM_TOKEN|>See.<|END_OF_TURN_TOKEN|>"
        "<|START_OF_TURN_TOKEN|><|USER_TOKEN|><|START_OF_IMG|>TILE_GLOBAL<|IMG_PATCH|>"
        "<|END_OF_IMG|>which cup?<|END_OF_TURN_TOKEN|><|START_OF_TURN_TOKEN|><|CHATBOT_TOKEN|>",
        "which cup?",
        system="See.",
    ),
)


def tiny(folder, *, image_size=112, most=4, layers=4):
    """A tiny Aya Vision; 364 pixels make the real 13 x 13 cells of a tile."""
    special = [
        *("<PAD>", "<UNK>", "<BOS_TOKEN>", "<|END_OF_TURN_TOKEN|>", TURN, USER, BOT),
        *("<|SYSTEM_TOKEN|>", "<|START_OF_IMG|>", "<|END_OF_IMG|>", "<|IMG_PATCH|>"),
    ]
    tokenizer = byte_tokenizer(
        special,
        **fields("""pad_token=<PAD> unk_token=<UNK> bos_token=<BOS_TOKEN>
            eos_token=<|END_OF_TURN_TOKEN|>"""),
        extra_special_tokens=special[4:],
        padding_side="left",
    )
    images = hf.GotOcr2ImageProcessorPil(
        size={"height": image_size, "width": image_size}, max_patches=most
    )
    processor = hf.AyaVisionProcessor(
        images,
        tokenizer,
        patch_size=14,
        img_size=image_size,
        downsample_factor=2,
        chat_template=CHAT,
    )
    config = hf.AyaVisionConfig(
        vision_config=hf.SiglipVisionConfig(
            **TOWER, image_size=image_size, patch_size=14, vision_use_head=False
        ),
        text_config=hf.Cohere2Config(**text_part(tokenizer, layers=layers), sliding_window=WINDOW),
        downsample_factor=2,
        image_token_index=tokenizer.convert_tokens_to_ids("<|IMG_PATCH|>"),
    )
    return save(hf.AyaVisionForConditionalGeneration, config, processor, folder, sharpness=10.0)


class TestAyaVision(contract(AyaVisionAdapter, GOLDEN, tiny)):
    def test_layers_with_a_window_do_not_see_the_first_tiles(self, opened):
        sees_a_window(opened, WINDOW)


TestOneTile = contract(
    AyaVisionAdapter, GOLDEN, tiny, options={"max_tiles": 1}, foreign=("patch_size", 14, (16, 64))
)
real_tiles = checkpoint(tiny, image_size=364, most=12, layers=1)


def test_a_photograph_has_thirteen_by_thirteen_cells_a_tile(real_tiles):
    opened = opens(AyaVisionAdapter, real_tiles)
    found = views(opened, (640, 480))
    names = [f"tile {row},{col}" for row in range(3) for col in range(4)]
    assert [view.name for view in found] == [*names, "thumbnail"]
    assert {view.shape for view in found} == {(13, 13)}
    assert found[5].extent == pytest.approx((160.0, 160.0, 320.0, 320.0))
    assert found[-1].extent == pytest.approx((0.0, 0.0, 640.0, 480.0))


def test_published_files_give_the_same_rows(tmp_path, published, change_of_rows):
    """CohereLabs/aya-vision-8b: a patch of merged patches, and the old names of the tower.

    From memory, and from the defaults of transformers' processor.
    """

    def rewrite(folder):
        images = hf.GotOcr2ImageProcessorPil(size={"height": 364, "width": 364}).to_dict()
        published(
            folder,
            images | {"image_processor_type": "GotOcr2ImageProcessorFast", "crop_to_patches": True},
            settings={
                "downsample_factor": 1,
                "image_token": "<image>",
                **fields("img_size=364 patch_size=28 processor_class=AyaVisionProcessor"),
            },
            renamed=[(r"^vision_tower\.", "vision_tower.vision_model.")],
        )

    folder = tiny(tmp_path / "m", image_size=364, most=12, layers=1)
    assert change_of_rows(AyaVisionAdapter, folder, rewrite, "chat") < 1e-6
