"""The adapter passes the contract on a tiny checkpoint of random weights."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import torch
from transformers import LlamaConfig, LlavaProcessor, SiglipVisionConfig
from transformers.models.siglip.image_processing_pil_siglip import SiglipImageProcessorPil
from vg_engine_adapter_template.adapter import SquashedLlavaAdapter
from vg_engine_adapter_template.model import SquashedLlava, SquashedLlavaConfig

from vg_engine.core.contract.prompt import Prompt
from vg_engine.testing import AdapterContract, Golden
from vg_engine.testing.tiny import BOS, EOS, PAD, byte_tokenizer, save_tiny, text_sizes

SIDE, PATCH = 112, 14  # of a tiny picture: 8 x 8 cells
CHAT = (
    "{% for message in messages %}{{ message['role'].upper() + ': ' }}"
    "{% for part in message['content'] %}"
    "{% if part['type'] == 'image' %}{{ '<image>\n' }}{% else %}{{ part['text'] + ' ' }}{% endif %}"
    "{% endfor %}{% endfor %}{% if add_generation_prompt %}{{ 'ASSISTANT:' }}{% endif %}"
)


def tiny(folder: Path) -> None:
    """Write what a real checkpoint's folder holds: the real classes, small sizes."""
    tokenizer = byte_tokenizer(
        [PAD, BOS, EOS, "<image>"],
        pad_token=PAD,
        bos_token=BOS,
        eos_token=EOS,
        extra_special_tokens=["<image>"],
    )
    vision = SiglipVisionConfig(
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=3,
        num_attention_heads=4,
        image_size=SIDE,
        patch_size=PATCH,
    )
    config = SquashedLlavaConfig(
        vision_config=vision,
        text_config=LlamaConfig(**text_sizes(tokenizer)),
        image_token_index=tokenizer.convert_tokens_to_ids("<image>"),
        vision_feature_select_strategy="full",  # SigLIP has no class token
    )
    processor_class: Any = LlavaProcessor
    processor = processor_class(
        SiglipImageProcessorPil(size={"height": SIDE, "width": SIDE}),
        tokenizer,
        patch_size=PATCH,
        vision_feature_select_strategy="full",
        chat_template=CHAT,
    )
    torch.manual_seed(0)
    save_tiny(SquashedLlava(config), processor, folder)


class TestSquashedLlava(AdapterContract):
    """The contract that every adapter has to pass; pytest runs it."""

    adapter: ClassVar[Any] = SquashedLlavaAdapter
    golden: ClassVar[Sequence[Golden]] = (
        # What is asked, how, the whole prompt, and the tokens whose rows are read: "." and "?".
        Golden("the cup", Prompt("bare", system="Look."), "Look. <image>\nthe cup.", rows=(13,)),
        Golden("which cup?", Prompt("chat"), "USER: <image>\nwhich cup? ASSISTANT:", rows=(30,)),
    )

    def build(self, folder: Path) -> None:
        """Write the tiny checkpoint."""
        tiny(folder)

    def load_plain(self, folder: Path, attention: str) -> Any:
        """Without the adapter; delete this where transformers knows your model's type."""
        return SquashedLlava.from_pretrained(
            folder, attn_implementation=attention, dtype=torch.float32
        ).eval()
