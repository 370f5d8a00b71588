"""EXAONE 4.5 passes the public contract: sliding windows, layers without positions."""

import transformers as hf
from building import chat, fields, save, text_part, vocabulary
from families import FIND, VICUNA, ask, contract, loaded, prompted

from vg_engine.model_adapters.families.exaone4_5 import Exaone45Adapter
from vg_engine.testing.tiny_qwen import qwen_processor

NAMED = ["<|endofturn|>", "<|system|>", "<|user|>", "<|assistant|>", "<vision>", "</vision>"]
PICTURE = "<vision><|image_pad|></vision>"
# Turns and picture as public code that runs LGAI-EXAONE/EXAONE-4.5-33B writes them.
CHAT = chat("<|ROLE|>\n", PICTURE, "<|endofturn|>\n", answer="<|assistant|>\n")
UNASKED = (262, 264, 263, 198, 86, 71, 72, 66, 71, 220, 66, 84, 79, 30)
GOLDEN = (
    prompted(f"{VICUNA} {PICTURE}\nthe cup.", form="bare"),
    prompted(f"{PICTURE}\nwhich cup?", "which cup?", form="bare", system="", ids=UNASKED),
    prompted(f"<|user|>\n{PICTURE}the cup.<|endofturn|>\n<|assistant|>\n"),
    prompted(
        f"<|system|>\nSee.<|endofturn|>\n<|user|>\n{PICTURE}Find the cup.\nNow<|endofturn|>\n"
        "<|assistant|>\n",
        **FIND,
    ),
)


def tiny_exaone(folder, tokens=(1, 48), window=24):
    """28 pixels per token; three layers see a window, the fourth sees all and no positions."""
    pads = ["<|image_pad|>", "<|video_pad|>"]
    tokenizer = vocabulary("pad=[PAD]", [*NAMED, *pads], merges=((".", "Ċ"),), eos_token=NAMED[0])
    config = hf.Exaone4_5_Config(
        text_config=text_part(
            tokenizer, "model_type=exaone4 sliding_window_pattern=4", sliding_window=window
        ),
        vision_config=fields("""depth=2 hidden_size=32 intermediate_size=64 num_heads=4
            num_key_value_heads=2 out_hidden_size=64 window_size=56 fullatt_block_indexes=[1]"""),
        image_token_id=tokenizer.convert_tokens_to_ids(pads[0]),
        video_token_id=tokenizer.convert_tokens_to_ids(pads[1]),
    )
    processor = qwen_processor(hf.Exaone4_5_Processor, tokenizer, chat=CHAT, tokens=tokens)
    return save(hf.Exaone4_5_ForConditionalGeneration, config, processor, folder, norms=1.7)


TestExaone45 = contract(
    Exaone45Adapter, GOLDEN, tiny_exaone, foreign=("image_processor.merge_size", 1, (25, 4))
)
opened = loaded(Exaone45Adapter, tiny_exaone, tokens=(4, 1280))


def test_a_picture_beyond_the_window_is_seen_by_the_fourth_layer_alone(opened):
    inputs = ask(opened, (640, 480))
    (view,) = opened.views(inputs)[0]
    assert view.shape == (17, 23)
    first = opened.rows(inputs)[0][:, 0, view.positions[0, 0]]
    heads = zip(opened.model.all_heads, first, strict=True)
    assert {head.layer for head, value in heads if value.item() > 0} == {3}


def test_positions_are_counted(opened):
    inputs = ask(opened, (280, 280))
    positions = inputs.tensors["position_ids"]
    assert positions.tolist() == [list(range(positions.shape[-1]))]
