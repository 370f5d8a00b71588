"""GLM-5 with vision passes the public contract: filled-up pictures, linear and indexed layers."""

from pathlib import Path

import pytest
import torch
from transformers import Glm5NextConfig, Glm5NextForConditionalGeneration, Glm5NextProcessor
from transformers.models.glm5_next.image_processing_pil_glm5_next import Glm5NextImageProcessorPil

from vg_engine.core.contract.inputs import Expression
from vg_engine.core.contract.prompt import Prompt
from vg_engine.core.errors import TokenCountError
from vg_engine.model_adapters.families.glm5_next import Glm5NextAdapter
from vg_engine.model_adapters.shared.huggingface import VICUNA
from vg_engine.model_adapters.shared.loading import without_video
from vg_engine.testing import AdapterContract, Golden, noise, open_adapter
from vg_engine.testing.tiny import END_OF_TEXT, byte_tokenizer, save_tiny, text_sizes

# transformers' own processor hands PyTorch's tensors to numpy in a way that numpy 2 warns of.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
STOP, NEWLINE = 13, 198
NAMED = {
    "<|begin_of_image|>": "image_start",
    "<|end_of_image|>": "image_end",
    "<|image|>": "image",
    "<|begin_of_video|>": "video_start",
    "<|end_of_video|>": "video_end",
    "<|video|>": "video",
}
TURNS = ["[gMASK]", "<sop>", "<|system|>", "<|user|>", "<|assistant|>"]
PICTURE = "<|begin_of_image|><|image|><|end_of_image|>"
# The picture as public copies of the template write it; the turns of GLM-4.5, from memory.
CHAT = (
    "[gMASK]<sop>{% for message in messages %}{{ '<|' + message['role'] + '|>\n' }}"
    "{% for item in message['content'] %}{% if item.type == 'image' %}" + PICTURE + ""
    "{% elif item.type == 'text' %}{{ item.text }}{% endif %}{% endfor %}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>\n' }}{% endif %}"
)
GOLDEN = (
    Golden("the cup", Prompt(), f"[gMASK]<sop>{VICUNA} {PICTURE}\nthe cup.", rows=(STOP,)),
    Golden(
        "which cup?",
        Prompt(system=""),
        f"[gMASK]<sop> {PICTURE}\nwhich cup?",
        (257, 258, 220, 262, 264, 263, 198, 86, 71, 72, 66, 71, 220, 66, 84, 79, 30),
        rows=(30,),
    ),
    Golden(
        "the cup",
        Prompt("chat"),
        f"[gMASK]<sop><|user|>\n{PICTURE}the cup.<|assistant|>\n",
        rows=(STOP,),
    ),
    Golden(
        "the cup",
        Prompt("chat", template="Find {expression} now", system="See.", query_row="prompt_last"),
        f"[gMASK]<sop><|system|>\nSee.<|user|>\n{PICTURE}Find the cup. now<|assistant|>\n",
        rows=(NEWLINE,),
    ),
)
KINDS = ["linear_attention", "indexed_attention", "indexed_attention", "linear_attention"]


def tiny_glm5(folder, tokens=(1, 48), topk=64):
    """28 pixels per token; a row sees up to `topk` tokens, and two layers share a selection."""
    tokenizer = byte_tokenizer(
        [END_OF_TEXT, *TURNS, *NAMED],
        pad_token=END_OF_TEXT,
        eos_token=END_OF_TEXT,
        extra_special_tokens=[*TURNS, *NAMED],
        padding_side="left",
    )
    config = Glm5NextConfig(
        text_config={
            **text_sizes(tokenizer),
            "num_key_value_heads": 4,
            "layer_types": list(KINDS),
            "mlp_layer_types": ["dense", "sparse", "dense", "sparse"],
            "indexer_types": ["full", "full", "shared", "full"],
            "moe_intermediate_size": 32,
            "n_routed_experts": 4,
            "num_experts_per_tok": 2,
            "kv_lora_rank": 16,
            "q_lora_rank": 32,
            "qk_nope_head_dim": 16,
            "v_head_dim": 16,
            "index_topk": topk,
            "index_kpool": 4,
            "index_head_dim": 16,
            # As few as 4 heads score groups of tokens zero, and equal scores may fall either way.
            "index_n_heads": 32,
            "linear_head_dim": 16,
            "linear_num_heads": 4,
        },
        vision_config={
            "depth": 2,
            "hidden_size": 32,
            "intermediate_size": 64,
            "num_heads": 4,
            "out_hidden_size": 64,
            "projection_intermediate_size": 64,
        },
        **{f"{to}_token_id": tokenizer.convert_tokens_to_ids(name) for name, to in NAMED.items()},
    )
    torch.manual_seed(0)
    module = Glm5NextForConditionalGeneration(config)
    for name, parameter in module.get_decoder().named_parameters():
        if name.endswith("q_b_proj.weight"):
            parameter.data.mul_(400.0)
    images = Glm5NextImageProcessorPil(min_image_tokens=tokens[0], max_image_tokens=tokens[1])
    processor = without_video(Glm5NextProcessor)(images, tokenizer, chat_template=CHAT)
    return save_tiny(module, processor, folder)


class TestGlm5Next(AdapterContract):
    adapter = Glm5NextAdapter
    golden = GOLDEN

    def build(self, folder: Path) -> None:
        tiny_glm5(folder)


@pytest.fixture(scope="module")
def opened(tmp_path_factory):
    """The numbers of tokens that the family's image processor allows."""
    folder = tiny_glm5(tmp_path_factory.mktemp("glm5") / "real", tokens=(16, 8000))
    return open_adapter(Glm5NextAdapter(), str(folder))


def view(opened, size):
    (found,) = opened.views(opened.prepare([noise(size)], [Expression(0, "it")]))[0]
    return found


def test_a_photograph_keeps_its_pixels_and_is_filled_up(opened):
    assert opened.model.statements == ("A picture becomes up to 8000 tokens of 28 x 28 pixels.",)
    found = view(opened, (640, 480))
    assert found.shape == (18, 23)
    assert found.extent == pytest.approx((0.0, 0.0, 644.0, 504.0))


def test_small_pictures_grow_and_large_ones_shrink(opened):
    small, large = view(opened, (40, 30)), view(opened, (2900, 2800))
    assert 16 <= small.shape[0] * small.shape[1] < 32
    # One pixel of the original is several of the canvas.
    assert small.to_original.scale[0] < 14
    assert 7800 < large.shape[0] * large.shape[1] <= 8000
    assert large.to_original.scale[0] > 28


def test_heads_are_those_of_indexed_layers_and_see_what_was_selected(opened):
    assert {head.layer for head in opened.model.all_heads} == {1, 2}
    inputs = opened.prepare([noise((640, 480))], [Expression(0, "it")])
    rows = opened.rows(inputs)[0][:, 0]
    # 16 groups of 4 tokens, and up to 3 tokens behind the last whole group.
    assert ((rows > 0).sum(-1) <= 64 + 3).all()
    assert ((rows[0] > 0) == (rows[-1] > 0)).float().mean().item() > 0.99


def test_a_processor_that_does_not_belong_to_the_model_is_refused(opened):
    inputs = opened.prepare([noise((280, 280))], [Expression(0, "it")])
    images = opened.model.processor.image_processor
    try:
        images.merge_size = 1
        with pytest.raises(TokenCountError, match=r"expected 400 image tokens .*20 x 20.* made"):
            opened.views(inputs)
    finally:
        images.merge_size = 2
