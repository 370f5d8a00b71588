"""Ovis2 passes the public contract: thumbnail first, indicator tokens, both rules for tiles."""

import pytest
import transformers as hf
from building import TOWER, chat, save, square, text_part, vocabulary
from families import ask, chatml, checkpoint, contract, opens, prompted, views

from vg_engine.core.errors import ExpressionError
from vg_engine.model_adapters.families.ovis2 import Ovis2Adapter

# What transformers' converter of the original checkpoints writes.
SYSTEM = "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n"
ANSWER = "<|im_start|>assistant\n"
CHAT = chat("<|im_start|>ROLE\n", "<image>\n", "<|im_end|>\n", answer=ANSWER, opening=SYSTEM)
INDICATORS = ("<IMG_START>", "<IMG_GRID>", "<IMG_COL>", "<IMG_ROW>", "<IMG_END>")
PICTURE = "<IMG_START><IMG_ATOM><IMG_GRID><IMG_END>"
GOLDEN = (
    prompted(f"Look. {PICTURE}\nthe cup.", form="bare", system="Look."),
    prompted(SYSTEM + chatml(f"{PICTURE}\nwhich cup?"), "which cup?"),
)


def tiny(folder, *, image_size=112, most=4, layers=4):
    """A tiny Ovis2; 448 pixels make the real 16 x 16 cells of a tile."""
    named = ["<IMG_ATOM>", *INDICATORS]
    tokenizer = vocabulary("pad=<|endoftext|> <|im_start|> eos=<|im_end|>", named)
    images = hf.Ovis2ImageProcessorPil(
        size=square(image_size), crop_to_patches=True, max_patches=most
    )
    length = (image_size // 28) ** 2
    processor = hf.Ovis2Processor(images, tokenizer, chat_template=CHAT, image_seq_length=length)
    config = hf.Ovis2Config(
        vision_config=hf.Ovis2VisionConfig(
            **TOWER, image_size=image_size, vocab_size=64, hidden_stride=2
        ),
        text_config=hf.Qwen2Config(**text_part(tokenizer, layers=layers)),
        image_token_id=tokenizer.convert_tokens_to_ids("<IMG_ATOM>"),
        visual_indicator_token_ids=tokenizer.convert_tokens_to_ids(list(INDICATORS)),
        vocab_size=len(tokenizer),
        hidden_size=64,
    )
    return save(hf.Ovis2ForConditionalGeneration, config, processor, folder)


FOREIGN = ("image_seq_length", 255, (16, 255))


class TestOvis2(contract(Ovis2Adapter, GOLDEN, tiny, foreign=FOREIGN)):
    def test_indicators_stand_between_the_grids(self, opened):
        inputs = ask(opened, (224, 224))
        ids = inputs.tensors["input_ids"][0]
        tokens = opened.model.processor.tokenizer.convert_ids_to_tokens(ids)
        found = opened.views(inputs)[0]
        names = ["thumbnail", "tile 0,0", "tile 0,1", "tile 1,0", "tile 1,1"]
        assert [view.name for view in found] == names
        before = [tokens[int(view.positions[0, 0]) - 1] for view in found]
        assert before == ["<IMG_START>", "<IMG_GRID>", "<IMG_COL>", "<IMG_ROW>", "<IMG_COL>"]
        assert tokens[int(found[-1].positions[-1, -1]) + 1] == "<IMG_END>"
        # The placeholder is no word of the model.
        with pytest.raises(ExpressionError, match="<image>"):
            ask(opened, text="the <image> cup")


TestOneTile = contract(
    Ovis2Adapter, GOLDEN, tiny, options={"max_tiles": 1}, pytestmark=pytest.mark.slow
)
real_tiles = checkpoint(tiny, image_size=448, most=9, layers=1)


@pytest.mark.parametrize(
    ("covering", "size", "last"),
    [
        (True, (640, 480), "tile 1,1"),
        (True, (448, 448), "tile 0,0"),
        # The installed image processor takes the rule's rows for columns, and so do we.
        (True, (900, 300), "tile 1,0"),
        (False, (640, 480), "tile 1,2"),
        (False, (900, 300), "tile 0,2"),
    ],
)
def test_both_rules_for_the_number_of_tiles(real_tiles, covering, size, last):
    opened = opens(Ovis2Adapter, real_tiles)
    opened.model.processor.image_processor.use_covering_area_grid = covering
    found = views(opened, size)
    assert found[-1].name == last
    assert {view.shape for view in found} == {(16, 16)}
    assert found[0].extent == pytest.approx((0.0, 0.0, *size))
