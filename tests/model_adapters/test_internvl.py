"""InternVL passes the public contract: tiles, thumbnail and merged patches."""

from pathlib import Path

from vg_engine.model_adapters.internvl import InternVLAdapter
from vg_engine.testing import AdapterContract
from vg_engine.testing.tiny import tiny_internvl


class TestInternVL(AdapterContract):
    adapter = InternVLAdapter

    def build(self, folder: Path) -> None:
        tiny_internvl(folder)
