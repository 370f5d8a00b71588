"""MiniMax-M3 passes the public contract: layers that attend to chosen blocks of keys."""

from typing import ClassVar

import pytest
import transformers as hf
from building import chat, save, text_part, vision_part, vocabulary
from families import ask, contract, opens, prompted, shows

from vg_engine.core.errors import InputError
from vg_engine.model_adapters.families.minimax_m3_vl import MiniMaxM3VLAdapter
from vg_engine.testing.tiny_qwen import qwen_processor

SHAPES = ((120, 120), (230, 110), (90, 210), (40, 60), (300, 220))
IMAGE, VIDEO = "]<]image[>[", "]<]video[>["
OPEN, CLOSE = "]<]start of image[>[", "]<]end of image[>["
START, TURN, END = "]~!b[", "]~b]", "[e~["
KINDS = ["full_attention", "minimax_m3_sparse", "minimax_m3_sparse", "full_attention"]
BLOCK, BLOCKS = 8, 3
# The turns of MiniMax-M2, from memory; thinking is left out.
CHAT = chat("]~b]ROLE\n", IMAGE, "[e~[\n", answer="]~b]ai\n", opening="{{ bos_token }}")
PICTURE = f"{OPEN}{IMAGE}{CLOSE}"
GOLDEN = (
    prompted(f"Look. {PICTURE}\nthe cup.", form="bare", system="Look."),
    prompted(
        f"{START}{TURN}system\nSee.{END}\n{TURN}user\n{PICTURE}which cup?{END}\n{TURN}ai\n",
        "which cup?",
        system="See.",
    ),
)


def tiny(folder, *, patch=7, tokens: tuple[int, int] = (1, 48)):
    """A tiny MiniMax-M3; patches of 14, 4 to 576 tokens and blocks of 128 are the real numbers."""
    named = {"turn_token": TURN, "image_token": IMAGE, "video_token": VIDEO}
    named |= {"open_token": OPEN, "close_token": CLOSE}
    special = f"bos={START} {TURN} eos={END} {IMAGE} {VIDEO}"
    more = {"extra_special_tokens": named, "padding_side": "right"}
    tokenizer = vocabulary(special, [OPEN, CLOSE], **more)
    images = {"image_class": hf.MiniMaxM3VLImageProcessor, "patch_size": patch, "tokens": tokens}
    processor = qwen_processor(hf.MiniMaxM3VLProcessor, tokenizer, chat=CHAT, **images)
    config = hf.MiniMaxM3VLConfig(
        text_config=text_part(
            tokenizer,
            """head_dim=16 rotary_dim=8 mlp_layer_types=["dense","dense","sparse","sparse"]
                dense_intermediate_size=64 shared_intermediate_size=32 num_local_experts=4
                num_experts_per_tok=2 index_n_heads=2 index_head_dim=16""",
            layers=len(KINDS),
            layer_types=list(KINDS),
            index_block_size=BLOCK,
            index_topk_blocks=BLOCKS,
        ),
        vision_config=vision_part("num_attention_heads=2 image_size=112", patch_size=patch),
        projector_hidden_size=64,
        image_token_index=tokenizer.convert_tokens_to_ids(IMAGE),
        video_token_index=tokenizer.convert_tokens_to_ids(VIDEO),
    )
    return save(hf.MiniMaxM3SparseForConditionalGeneration, config, processor, folder, norms=1.8)


class TestMiniMaxM3VL(
    contract(MiniMaxM3VLAdapter, GOLDEN, tiny, foreign=("image_processor.merge_size", 1, (81, 25)))
):
    shapes = SHAPES
    # On the left it would shift the blocks, so it cannot be asked for.
    padding: ClassVar = ({},)

    def test_sparse_layers_see_a_few_blocks_for_each_group_of_heads(self, opened):
        inputs = ask(opened, (200, 200), "the cup")
        (rows,) = opened.rows(inputs)
        last = inputs.queries[0].rows[0]
        assert last > BLOCK * (BLOCKS + 2)
        seen = {}
        for head, row in zip(opened.model.all_heads, rows[:, 0], strict=True):
            blocks = set((row[: last + 1].nonzero().ravel() // BLOCK).tolist())
            seen[head.layer, head.head] = blocks
            assert (len(blocks) <= BLOCKS) == (KINDS[head.layer] == "minimax_m3_sparse")
        # Two heads to a group; the groups choose by themselves.
        assert seen[1, 0] == seen[1, 1]
        assert seen[1, 2] == seen[1, 3]
        assert seen[1, 0] != seen[1, 2] or seen[2, 0] != seen[2, 2]


def test_a_photograph_is_squashed_and_padding_on_the_left_cannot_be_asked_for(tmp_path):
    folder = tiny(tmp_path / "m", patch=14, tokens=(4, 576))
    shows(opens(MiniMaxM3VLAdapter, folder), (640, 480), (17, 23))
    with pytest.raises(InputError, match="padding_side"):
        opens(MiniMaxM3VLAdapter, folder, padding_side="left")
