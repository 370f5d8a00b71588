"""EXAONE 4.5 passes the public contract: sliding windows, layers without positions."""

from pathlib import Path

import pytest
import torch
from transformers import Exaone4_5_Config, Exaone4_5_ForConditionalGeneration, Exaone4_5_Processor

from vg_engine.core.contract.inputs import Expression
from vg_engine.core.contract.prompt import Prompt
from vg_engine.core.errors import TokenCountError
from vg_engine.model_adapters.families.exaone4_5 import Exaone45Adapter
from vg_engine.model_adapters.shared.huggingface import VICUNA
from vg_engine.testing import AdapterContract, Golden, noise, open_adapter
from vg_engine.testing.tiny import byte_tokenizer, save_tiny, text_sizes
from vg_engine.testing.tiny_qwen import qwen_processor, sharpen_norms

STOP, STOP_NEWLINE, END = 13, 256, 258
NAMED = ["<|endofturn|>", "<|system|>", "<|user|>", "<|assistant|>", "<vision>", "</vision>"]
PICTURE = "<vision><|image_pad|></vision>"
# Turns and picture as public code that runs LGAI-EXAONE/EXAONE-4.5-33B writes them.
CHAT = (
    "{% for message in messages %}{{ '<|' + message['role'] + '|>\n' }}"
    "{% for content in message['content'] %}{% if content['type'] == 'image' %}" + PICTURE + ""
    "{% elif 'text' in content %}{{ content['text'] }}{% endif %}{% endfor %}"
    "{{ '<|endofturn|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>\n' }}{% endif %}"
)
GOLDEN = (
    Golden("the cup", Prompt(), f"{VICUNA} {PICTURE}\nthe cup.", rows=(STOP,)),
    Golden(
        "which cup?",
        Prompt(system=""),
        f"{PICTURE}\nwhich cup?",
        (262, 264, 263, 198, 86, 71, 72, 66, 71, 220, 66, 84, 79, 30),
        rows=(30,),
    ),
    Golden(
        "the cup",
        Prompt("chat"),
        f"<|user|>\n{PICTURE}the cup.<|endofturn|>\n<|assistant|>\n",
        rows=(STOP,),
    ),
    Golden(
        "the cup",
        Prompt("chat", template="Find {expression}\nNow", system="See."),
        f"<|system|>\nSee.<|endofturn|>\n<|user|>\n{PICTURE}Find the cup.\nNow<|endofturn|>\n"
        "<|assistant|>\n",
        rows=(STOP_NEWLINE,),
    ),
)


def tiny_exaone(folder, tokens=(1, 48), window=24):
    """28 pixels per token; three layers see a window, the fourth sees all and no positions."""
    pads = ["<|image_pad|>", "<|video_pad|>"]
    tokenizer = byte_tokenizer(
        ["[PAD]", *NAMED, *pads],
        merges=((".", "Ċ"),),
        pad_token="[PAD]",
        eos_token=NAMED[0],
        extra_special_tokens=[*NAMED, *pads],
        padding_side="left",
    )
    config = Exaone4_5_Config(
        text_config={
            **text_sizes(tokenizer),
            "model_type": "exaone4",
            "sliding_window": window,
            "sliding_window_pattern": 4,
        },
        vision_config={
            "depth": 2,
            "hidden_size": 32,
            "intermediate_size": 64,
            "num_heads": 4,
            "num_key_value_heads": 2,
            "out_hidden_size": 64,
            "window_size": 56,
            "fullatt_block_indexes": [1],
        },
        image_token_id=tokenizer.convert_tokens_to_ids(pads[0]),
        video_token_id=tokenizer.convert_tokens_to_ids(pads[1]),
    )
    torch.manual_seed(0)
    module = Exaone4_5_ForConditionalGeneration(config)
    sharpen_norms(module.get_decoder(), 1.7)
    processor = qwen_processor(Exaone4_5_Processor, tokenizer, chat=CHAT, tokens=tokens)
    return save_tiny(module, processor, folder)


class TestExaone45(AdapterContract):
    adapter = Exaone45Adapter
    golden = GOLDEN

    def build(self, folder: Path) -> None:
        tiny_exaone(folder)


@pytest.fixture(scope="module")
def opened(tmp_path_factory):
    folder = tiny_exaone(tmp_path_factory.mktemp("exaone") / "tiny", tokens=(4, 1280))
    return open_adapter(Exaone45Adapter(), str(folder))


def test_a_picture_beyond_the_window_is_seen_by_the_fourth_layer_alone(opened):
    inputs = opened.prepare([noise((640, 480))], [Expression(0, "it")])
    (view,) = opened.views(inputs)[0]
    assert view.shape == (17, 23)
    first = opened.rows(inputs)[0][:, 0, view.positions[0, 0]]
    seen = {
        head.layer
        for head, value in zip(opened.model.all_heads, first, strict=True)
        if value.item() > 0
    }
    assert seen == {3}


def test_positions_are_counted(opened):
    inputs = opened.prepare([noise((280, 280))], [Expression(0, "it")])
    positions = inputs.tensors["position_ids"]
    assert positions.tolist() == [list(range(positions.shape[-1]))]


def test_a_processor_that_does_not_belong_to_the_model_is_refused(opened):
    inputs = opened.prepare([noise((280, 280))], [Expression(0, "it")])
    images = opened.model.processor.image_processor
    try:
        images.merge_size = 1
        with pytest.raises(TokenCountError, match=r"expected 400 image tokens .*20 x 20.* made"):
            opened.views(inputs)
    finally:
        images.merge_size = 2
