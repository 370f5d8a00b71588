"""Yi-VL: a LLaVA with norms in its projector, pictures padded to a square of 448 pixels.

The system sentence is the one of the original's conversation template (01-ai/Yi,
VL/llava/conversation.py), in both of its languages.
"""

from __future__ import annotations

from typing import Any, ClassVar

from vg_engine.core.contract.model import ModelSpec
from vg_engine.model_adapters.families.llava import LlavaAdapter
from vg_engine.model_adapters.modules.parts import unregistered
from vg_engine.model_adapters.modules.yi_vl import YiVLForConditionalGeneration


class YiVLAdapter(LlavaAdapter):
    """Models of type `yi_vl`, as `vg-engine convert` writes them."""

    name: ClassVar[str] = "yi_vl"
    model_types: ClassVar[tuple[str, ...]] = ("yi_vl",)
    auto_class: ClassVar[Any] = YiVLForConditionalGeneration
    system: ClassVar[str] = (
        "This is a chat between an inquisitive human and an AI assistant. Assume the role of the "
        "AI assistant. Read all the images carefully, and respond to the human's questions with "
        "informative, helpful, detailed and polite answers. "
        "这是一个好奇的人类和一个人工智能助手之间的对话。假设你扮演这个AI助手的角色。"
        "仔细阅读所有的图像，并对人类的问题做出信息丰富、有帮助、详细的和礼貌的回答。"
    )
    bare: ClassVar[str] = "{system}\n\n{image}\n{text}"

    def load_processor(self, spec: ModelSpec) -> Any:
        """The processor of a checkpoint, from its files."""
        with unregistered():
            return super().load_processor(spec)
