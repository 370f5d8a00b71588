"""Visual grounding with any frozen vision-language model, by reading a few attention heads.

>>> import vg_engine
>>> engine = vg_engine.load()                                  # doctest: +SKIP
>>> engine.ground("scene.png", "the red circle").box           # doctest: +SKIP
(31.5, 80.0, 77.1, 126.4)

Importing this module is cheap: numpy, torch and transformers come when they are needed.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from vg_engine._version import __version__
    from vg_engine.adapter_package import new_adapter
    from vg_engine.api import edit, load
    from vg_engine.checkpoints import convert, doctor
    from vg_engine.core.contract.picture import Picture
    from vg_engine.core.contract.prompt import Prompt
    from vg_engine.core.contract.results import Grounding, HeadMaps, Instance
    from vg_engine.core.engine.engine import Engine, Settings
    from vg_engine.core.engine.scene import OpenScene
    from vg_engine.core.errors import (
        AdapterNotFoundError,
        CaptureError,
        ExpressionError,
        HeadsError,
        HeadSetNotFoundError,
        InputError,
        ModelError,
        ModelNotFoundError,
        NotFoundError,
        OutputError,
        PictureError,
        PluginError,
        TokenCountError,
        UnsupportedModelError,
        VGError,
        WeightsError,
    )
    from vg_engine.core.evaluation.samples import DataSet, Sample
    from vg_engine.core.heads import Head, HeadSet
    from vg_engine.core.selection.head_statistics import Criteria
    from vg_engine.engine_spec import EngineSpec
    from vg_engine.plugins.datasets.names import open_data
    from vg_engine.plugins.exporters.records import to_detections, to_record
    from vg_engine.render import draw, sheet
    from vg_engine.studies.ablate.ablation import AblateSettings, ablate
    from vg_engine.studies.compare.comparison import compare
    from vg_engine.studies.discover.discovery import DiscoverSettings, discover
    from vg_engine.studies.evaluate.evaluation import EvaluateSettings, evaluate

__all__ = [
    "AblateSettings",
    "AdapterNotFoundError",
    "CaptureError",
    "Criteria",
    "DataSet",
    "DiscoverSettings",
    "Engine",
    "EngineSpec",
    "EvaluateSettings",
    "ExpressionError",
    "Grounding",
    "Head",
    "HeadMaps",
    "HeadSet",
    "HeadSetNotFoundError",
    "HeadsError",
    "InputError",
    "Instance",
    "ModelError",
    "ModelNotFoundError",
    "NotFoundError",
    "OpenScene",
    "OutputError",
    "Picture",
    "PictureError",
    "PluginError",
    "Prompt",
    "Sample",
    "Settings",
    "TokenCountError",
    "UnsupportedModelError",
    "VGError",
    "WeightsError",
    "__version__",
    "ablate",
    "compare",
    "convert",
    "discover",
    "doctor",
    "draw",
    "edit",
    "evaluate",
    "load",
    "new_adapter",
    "open_data",
    "sheet",
    "to_detections",
    "to_record",
]

# Each module with the public names that come from it, imported when a name is first used.
_MODULES = {
    "vg_engine._version": "__version__",
    "vg_engine.adapter_package": "new_adapter",
    "vg_engine.api": "edit load",
    "vg_engine.checkpoints": "convert doctor",
    "vg_engine.core.contract.picture": "Picture",
    "vg_engine.core.contract.prompt": "Prompt",
    "vg_engine.core.contract.results": "Grounding HeadMaps Instance",
    "vg_engine.core.engine.engine": "Engine Settings",
    "vg_engine.core.engine.scene": "OpenScene",
    "vg_engine.core.errors": " ".join(name for name in __all__ if name.endswith("Error")),
    "vg_engine.core.evaluation.samples": "DataSet Sample",
    "vg_engine.core.heads": "Head HeadSet",
    "vg_engine.core.selection.head_statistics": "Criteria",
    "vg_engine.engine_spec": "EngineSpec",
    "vg_engine.plugins.datasets.names": "open_data",
    "vg_engine.plugins.exporters.records": "to_detections to_record",
    "vg_engine.render": "draw sheet",
    "vg_engine.studies.ablate.ablation": "AblateSettings ablate",
    "vg_engine.studies.compare.comparison": "compare",
    "vg_engine.studies.discover.discovery": "DiscoverSettings discover",
    "vg_engine.studies.evaluate.evaluation": "EvaluateSettings evaluate",
}
_HOMES = {name: module for module, names in _MODULES.items() for name in names.split()}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(_HOMES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOMES})
