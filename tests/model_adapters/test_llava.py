"""LLaVA-1.5 passes the public contract, in both of its geometries."""

from pathlib import Path

from vg_engine.core.types import Prompt
from vg_engine.model_adapters.llava import LlavaAdapter
from vg_engine.testing import AdapterContract
from vg_engine.testing.tiny import tiny_llava


class TestCrop(AdapterContract):
    adapter = LlavaAdapter

    def build(self, folder: Path) -> None:
        tiny_llava(folder)


class TestPad(AdapterContract):
    adapter = LlavaAdapter

    def build(self, folder: Path) -> None:
        tiny_llava(folder, geometry="pad")
