"""Command A Vision passes the public contract: tiles with breaks, layers that see a window."""

import transformers as hf
from building import chat, fields, save, siglip, square, text_part, vocabulary
from families import contract, opens, prompted, tiled

from vg_engine.model_adapters.families.cohere2_vision import Cohere2VisionAdapter
from vg_engine.testing import Golden

SHAPES = ((120, 120), (230, 110), (90, 210), (40, 60), (300, 220))
WINDOW = 40  # shorter than most sequences here
TURN, END = "<|START_OF_TURN_TOKEN|>", "<|END_OF_TURN_TOKEN|>"
NAMED = fields("""boi_token=<|START_OF_IMG|> eoi_token=<|END_OF_IMG|> image_token=<|IMG_PATCH|>
        img_line_break_token=<|IMG_LINE_BREAK|>""")
ROLES = ("<|USER_TOKEN|>", "<|SYSTEM_TOKEN|>", "<|CHATBOT_TOKEN|>")
# The turns of other templates of Cohere, from memory; what the real one adds is left out.
ROLE = "{% if message['role'] == 'user' %}<|USER_TOKEN|>{% else %}<|SYSTEM_TOKEN|>{% endif %}"
ANSWER, OPENED = TURN + "<|CHATBOT_TOKEN|>", "{{ bos_token }}"
CHAT = chat(TURN + ROLE, "<|IMG_PATCH|>", END, answer=ANSWER, opening=OPENED)
SEE = f"{TURN}<|SYSTEM_TOKEN|>See.{END}{TURN}<|USER_TOKEN|>"
TILE = "<|IMG_PATCH|><|IMG_LINE_BREAK|>"
# 64 x 64 pixels are more than one tile of 56 pixels.
PICTURE = f"<|START_OF_IMG|>{TILE * 5}<|END_OF_IMG|>"
ONE_TILE = f"<|START_OF_IMG|>{TILE}<|END_OF_IMG|>"


def golden(picture: str) -> tuple[Golden, ...]:
    return (
        prompted(f"Look. {picture}\nthe cup.", form="bare", system="Look."),
        prompted(f"<BOS_TOKEN>{SEE}{picture}which cup?{END}{ANSWER}", "which cup?", system="See."),
    )


def tiny(folder, *, side=56, patch=7, most=4, layers=4):
    """A tiny Command A Vision; 512 pixels and patches of 16 make the real 16 x 16 cells."""
    special = f"pad=<PAD> bos=<BOS_TOKEN> {TURN} eos={END}"
    named = {**NAMED, "turn_token": TURN}
    tokenizer = vocabulary(special, [*ROLES, *NAMED.values()], extra_special_tokens=named)
    # What transformers calls the patch size here is how many cells a tile is wide.
    cells = side // patch // 2
    images = hf.Cohere2VisionImageProcessor(size=square(side), max_patches=most, patch_size=cells)
    processor = hf.Cohere2VisionProcessor(images, tokenizer, chat_template=CHAT)
    config = hf.Cohere2VisionConfig(
        vision_config=siglip(side, patch),
        text_config=hf.Cohere2Config(**text_part(tokenizer, layers=layers), sliding_window=WINDOW),
        downsample_factor=2,
        alignment_intermediate_size=64,
        image_token_id=tokenizer.convert_tokens_to_ids("<|IMG_PATCH|>"),
    )
    return save(hf.Cohere2VisionForConditionalGeneration, config, processor, folder)


FOREIGN = ("patch_size", 8, (80, 320))
TestCohere2Vision = contract(
    Cohere2VisionAdapter, golden(PICTURE), tiny, shapes=SHAPES, foreign=FOREIGN
)
ONE = {"max_tiles": 1}
TestOneTile = contract(Cohere2VisionAdapter, golden(ONE_TILE), tiny, options=ONE, shapes=SHAPES)


def test_a_photograph_has_sixteen_by_sixteen_cells_a_tile(tmp_path):
    folder = tiny(tmp_path / "m", side=512, patch=16, most=12, layers=1)
    known = {1: (320.0, 0.0, 640.0, 480.0)}
    opened = opens(Cohere2VisionAdapter, folder)
    tiled(opened, (640, 480), (1, 2), (16, 16), known, last=["thumbnail"])
