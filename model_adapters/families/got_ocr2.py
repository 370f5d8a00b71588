"""GOT-OCR2: a SAM tower whose 64 x 64 patches two strided convolutions turn into 16 x 16 tokens.

A page is squashed to one square; the option `max_tiles` asks for tiles (multi-crop), row by row
with the thumbnail last. The convolutions are padded on all sides, so that each centres a token on
the first of its two inputs: tokens lie to the left of, and above, an even division of the page.
The tower runs with eager attention alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from transformers import GotOcr2Processor

from vg_engine.core.contract.model import LoadedModel
from vg_engine.core.geometry import Frame
from vg_engine.model_adapters.families.internvl import InternVLAdapter
from vg_engine.model_adapters.shared import resize_steps
from vg_engine.model_adapters.shared.huggingface import Adapted, Grid, Options

# Two convolutions of stride 2.
_MERGED = 4
# In cells: token i is centred on the first of its four patches, not on their middle.
_SHIFT = 1.5 / _MERGED


class GotOcr2Adapter(InternVLAdapter):
    """Models of type `got_ocr2`; the option `max_tiles` asks for tiles."""

    name: ClassVar[str] = "got_ocr2"
    model_types: ClassVar[tuple[str, ...]] = ("got_ocr2",)
    processor_class: ClassVar[Any] = GotOcr2Processor
    always_tiled: ClassVar[bool] = False
    layout: ClassVar[str] = "one squashed grid, 3/8 cell up and left; or tiles (option max_tiles)"
    blends: ClassVar[bool] = True
    bare: ClassVar[str] = "{system} <img>{image}</img>\n{text}"

    def adapt_processor(self, processor: Any, module: Any, options: Options) -> Adapted:
        """Say why a strip of the page lies in no cell."""
        processor, statements = super().adapt_processor(processor, module, options)
        ends = "Cells end 3/8 of a cell before the page's right and lower end."
        return processor, (*statements, ends)

    def call_options(self, model: LoadedModel) -> Mapping[str, Any]:
        """The number of tokens of a tile, too: the processor keeps it for no checkpoint."""
        rows, cols = self.cells(model)
        return {**super().call_options(model), "num_image_tokens": rows * cols}

    def cells(self, model: LoadedModel) -> tuple[int, int]:
        """Return the rows and columns of a tile's cells, which remain after the convolutions."""
        config: Any = model.module.config
        side = config.vision_config.image_size // config.vision_config.patch_size // _MERGED
        return side, side

    def grids(self, model: LoadedModel, frame: Frame) -> Sequence[Grid]:
        """Cells around what their tokens see, which leaves a strip on the right and below."""
        return [resize_steps.early(grid, _SHIFT) for grid in super().grids(model, frame)]
