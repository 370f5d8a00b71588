"""Aya Vision passes the public contract: named tiles, and layers that see a window."""

import pytest
import transformers as hf
from building import chat, fields, save, siglip, square, text_part, vocabulary
from families import RENAMED, contract, opens, prompted, sees_a_window, tiled

from vg_engine.model_adapters.families.aya_vision import AyaVisionAdapter

# Shorter than most sequences here, so that three of four layers do not see the first tiles.
WINDOW = 40
PARTS = ("<|SYSTEM_TOKEN|>", "<|START_OF_IMG|>", "<|END_OF_IMG|>", "<|IMG_PATCH|>")
TURN, END = "<|START_OF_TURN_TOKEN|>", "<|END_OF_TURN_TOKEN|>"
USER, BOT = "<|USER_TOKEN|>", "<|CHATBOT_TOKEN|>"
# The turns are those of public prompts for aya-vision-8b; the system turn is from memory.
ROLES = "{{ {'user': '<|USER_TOKEN|>', 'system': '<|SYSTEM_TOKEN|>'}[message['role']] }}"
OPENED = "{{ bos_token }}"
CHAT = chat(TURN + ROLES, "<image>", END, answer="<|START_OF_TURN_TOKEN|>" + BOT, opening=OPENED)
PICTURE = "<|START_OF_IMG|>TILE_GLOBAL<|IMG_PATCH|><|END_OF_IMG|>"
GOLDEN = (
    prompted(f"Look. {PICTURE}\nthe cup.", form="bare", system="Look."),
    prompted(
        "<BOS_TOKEN><|START_OF_TURN_TOKEN|><|SYSTEM_TOKEN|>See.<|END_OF_TURN_TOKEN|>"
        f"{TURN}{USER}{PICTURE}which cup?{END}{TURN}{BOT}",
        "which cup?",
        system="See.",
    ),
)


def tiny(folder, *, image_size=112, most=4, layers=4):
    """A tiny Aya Vision; 364 pixels make the real 13 x 13 cells of a tile."""
    tokenizer = vocabulary(
        f"pad=<PAD> unk=<UNK> bos=<BOS_TOKEN> eos={END}", [TURN, USER, BOT, *PARTS]
    )
    images = hf.GotOcr2ImageProcessorPil(size=square(image_size), max_patches=most)
    sizes = {"patch_size": 14, "img_size": image_size, "downsample_factor": 2}
    processor = hf.AyaVisionProcessor(images, tokenizer, chat_template=CHAT, **sizes)
    config = hf.AyaVisionConfig(
        vision_config=siglip(image_size),
        text_config=hf.Cohere2Config(**text_part(tokenizer, layers=layers), sliding_window=WINDOW),
        downsample_factor=2,
        image_token_index=tokenizer.convert_tokens_to_ids("<|IMG_PATCH|>"),
    )
    return save(hf.AyaVisionForConditionalGeneration, config, processor, folder, sharpness=10.0)


FOREIGN = ("patch_size", 14, (16, 64))


class TestAyaVision(contract(AyaVisionAdapter, GOLDEN, tiny, foreign=FOREIGN)):
    def test_layers_with_a_window_do_not_see_the_first_tiles(self, opened):
        sees_a_window(opened, WINDOW)


TestOneTile = contract(
    AyaVisionAdapter, GOLDEN, tiny, options={"max_tiles": 1}, pytestmark=pytest.mark.slow
)


def test_a_photograph_has_thirteen_by_thirteen_cells_a_tile(tmp_path):
    opened = opens(AyaVisionAdapter, tiny(tmp_path / "m", image_size=364, most=12, layers=1))
    known = {5: (160.0, 160.0, 320.0, 320.0), -1: (0.0, 0.0, 640.0, 480.0)}
    tiled(opened, (640, 480), (3, 4), (13, 13), known, last=["thumbnail"])


def test_published_files_give_the_same_rows(tmp_path, same_rows):
    """CohereLabs/aya-vision-8b: a patch of merged patches, and the old names of the tower.

    From memory, and from the defaults of transformers' processor.
    """
    images = hf.GotOcr2ImageProcessorPil(size=square(364)).to_dict()
    images |= {"image_processor_type": "GotOcr2ImageProcessorFast", "crop_to_patches": True}
    settings = fields("""downsample_factor=1 image_token=<image> img_size=364 patch_size=28
        processor_class=AyaVisionProcessor""")
    folder = tiny(tmp_path / "m", image_size=364, most=12, layers=1)
    same_rows(AyaVisionAdapter, folder, images, settings=settings, renamed=RENAMED)
