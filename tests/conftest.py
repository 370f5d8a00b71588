"""What holds for every test: offline, repeatable, and with every shape in a signature checked."""

import gc
import importlib
import os
import random
import sys

import pytest
from jaxtyping import install_import_hook

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"
os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")

# Inside the hook Python would compile these anew. What stays is not searched for garbage.
gc.disable()
for library in ("auto.modeling_auto", "auto.processing_auto", "clip.image_processing_pil_clip"):
    importlib.import_module(f"transformers.models.{library}")
importlib.import_module("scipy.stats")
gc.freeze()
gc.enable()

if "vg_engine" in sys.modules:
    message = "vg_engine was imported before its shapes could be checked; look for `-p` or plugins"
    raise RuntimeError(message)
install_import_hook("vg_engine", "beartype.beartype")

pytest_plugins = ["vg_engine.testing.summary"]

import numpy as np  # noqa: E402 - the environment is read when libraries are imported
import torch  # noqa: E402 - the same

torch.set_num_threads(min(2, torch.get_num_threads()))
torch.backends.cudnn.deterministic = True
torch.backends.cudnn.benchmark = False
torch.backends.cudnn.allow_tf32 = False


def pytest_collection_finish() -> None:
    """Whatever was imported and collected stays, and is not searched for garbage either."""
    gc.freeze()


@pytest.fixture(autouse=True)
def _seeded() -> None:
    """Each test draws the same numbers, whichever tests ran before it."""
    random.seed(0)
    np.random.seed(0)  # noqa: NPY002 - libraries still draw from the global generator
    torch.manual_seed(0)
