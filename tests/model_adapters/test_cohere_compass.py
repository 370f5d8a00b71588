"""Cohere's Compass passes the public contract: features of several tower layers, windows."""

from pathlib import Path

import pytest
import torch
from transformers import (
    CohereCompassConfig,
    CohereCompassForConditionalGeneration,
    CohereCompassProcessor,
)
from transformers.models.cohere_compass.image_processing_pil_cohere_compass import (
    CohereCompassImageProcessorPil,
)

from vg_engine.core.contract.inputs import Expression
from vg_engine.core.contract.prompt import Prompt
from vg_engine.core.errors import TokenCountError
from vg_engine.model_adapters.families.cohere_compass import CohereCompassAdapter
from vg_engine.model_adapters.shared.huggingface import VICUNA
from vg_engine.testing import AdapterContract, Golden, noise, open_adapter
from vg_engine.testing.tiny import byte_tokenizer, save_tiny, text_sizes
from vg_engine.testing.tiny_qwen import qwen_processor

STOP, STOP_NEWLINE = 13, 256
TURN, END = "<|START_OF_TURN_TOKEN|>", "<|END_OF_TURN_TOKEN|>"
ROLES = {"system": "SYSTEM", "user": "USER", "assistant": "CHATBOT"}
NAMED = {
    "vision_start": "<|VISION_START|>",
    "vision_end": "<|VISION_END|>",
    "image": "<|IMAGE_PAD|>",
    "video": "<|VIDEO_PAD|>",
}
PICTURE = "<|VISION_START|><|IMAGE_PAD|><|VISION_END|>"
# The turns of Cohere's other templates, from memory: this family's could not be looked up.
CHAT = (
    "{{ bos_token }}{% for message in messages %}" + TURN + ""
    "{% if message['role'] == 'user' %}<|USER_TOKEN|>{% else %}<|SYSTEM_TOKEN|>{% endif %}"
    "{% for content in message['content'] %}{% if content['type'] == 'image' %}" + PICTURE + ""
    "{% elif 'text' in content %}{{ content['text'] }}{% endif %}{% endfor %}" + END + ""
    "{% endfor %}{% if add_generation_prompt %}" + TURN + "<|CHATBOT_TOKEN|>{% endif %}"
)
OPEN = f"<BOS_TOKEN>{TURN}<|USER_TOKEN|>{PICTURE}"
ANSWER = f"{END}{TURN}<|CHATBOT_TOKEN|>"
GOLDEN = (
    Golden("the cup", Prompt(), f"{VICUNA} {PICTURE}\nthe cup.", rows=(STOP,)),
    Golden("which cup?", Prompt(system=""), f"{PICTURE}\nwhich cup?", rows=(30,)),
    Golden(
        "the cup",
        Prompt("chat"),
        f"{OPEN}the cup.{ANSWER}",
        (258, 259, 262, 264, 266, 265, 83, 71, 68, 220, 66, 84, 79, 13, 260, 259, 263),
        rows=(STOP,),
    ),
    Golden(
        "the cup",
        Prompt("chat", template="Find {expression}\nNow", system="See."),
        f"<BOS_TOKEN>{TURN}<|SYSTEM_TOKEN|>See.{END}{TURN}<|USER_TOKEN|>{PICTURE}"
        f"Find the cup.\nNow{ANSWER}",
        rows=(STOP_NEWLINE,),
    ),
)
KINDS = ["sliding_attention", "full_attention", "sliding_attention", "full_attention"]


def tiny_compass(folder, tokens=(1, 48)):
    """32 pixels per token; windows of 24 tokens, and full layers without positions."""
    roles = [f"<|{role}_TOKEN|>" for role in ROLES.values()]
    tokenizer = byte_tokenizer(
        ["<PAD>", "<BOS_TOKEN>", TURN, END, *roles, *NAMED.values()],
        merges=((".", "Ċ"),),
        pad_token="<PAD>",
        bos_token="<BOS_TOKEN>",
        eos_token=END,
        extra_special_tokens=[TURN, *roles, *NAMED.values()],
        padding_side="left",
    )
    rope = {"rope_type": "default", "rope_theta": 10000.0, "mrope_section": [4, 2, 2]}
    config = CohereCompassConfig(
        text_config={
            **text_sizes(tokenizer),
            "sliding_window": 24,
            "layer_types": list(KINDS),
            "rope_parameters": {"sliding_attention": rope, "full_attention": None},
        },
        vision_config={
            "depth": 3,
            "hidden_size": 32,
            "intermediate_size": 64,
            "num_heads": 4,
            "out_hidden_size": 64,
            "num_position_embeddings": 64,
            "deepstack_visual_indexes": [0, 1],
        },
        **{f"{n}_token_id": tokenizer.convert_tokens_to_ids(token) for n, token in NAMED.items()},
    )
    torch.manual_seed(0)
    processor = qwen_processor(
        CohereCompassProcessor,
        tokenizer,
        chat=CHAT,
        patch_size=16,
        tokens=tokens,
        image_class=CohereCompassImageProcessorPil,
    )
    return save_tiny(CohereCompassForConditionalGeneration(config), processor, folder)


class TestCohereCompass(AdapterContract):
    adapter = CohereCompassAdapter
    golden = GOLDEN

    def build(self, folder: Path) -> None:
        tiny_compass(folder)


@pytest.fixture(scope="module")
def opened(tmp_path_factory):
    folder = tiny_compass(tmp_path_factory.mktemp("compass") / "tiny", tokens=(4, 1024))
    return open_adapter(CohereCompassAdapter(), str(folder))


def test_a_photograph_is_squashed_to_whole_tokens(opened):
    (view,) = opened.views(opened.prepare([noise((640, 470))], [Expression(0, "it")]))[0]
    assert view.shape == (15, 20)
    assert view.extent == pytest.approx((0.0, 0.0, 640.0, 470.0))


def test_a_processor_that_does_not_belong_to_the_model_is_refused(opened):
    inputs = opened.prepare([noise((320, 320))], [Expression(0, "it")])
    images = opened.model.processor.image_processor
    try:
        images.merge_size = 1
        with pytest.raises(TokenCountError, match=r"expected 400 image tokens .*20 x 20.* made"):
            opened.views(inputs)
    finally:
        images.merge_size = 2
