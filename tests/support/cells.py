"""Engines of the package of cells, and entries of the user's own."""

from pathlib import Path
from typing import Any

import numpy as np

import vg_engine

PIXELS = np.zeros((60, 90, 3), np.uint8)
STATED = "prompt: {form: chat, query_row: prompt_last}\n"


def cells(**choices: Any) -> vg_engine.Engine:
    return vg_engine.load(**{"source": "cells", "adapter": "cell"} | choices)


def name_of_heads(engine: vg_engine.Engine) -> str | None:
    return engine.head_set.name if engine.head_set else None


def keep_heads(home: Path, name: str, models: str, more: str = "") -> None:
    (home / "heads").mkdir(parents=True, exist_ok=True)
    (home / "heads" / f"{name}.yaml").write_text(
        f"name: {name}\nmodels: [{models}]\nrule: given\nheads: [{{head: L2H1}}]\n{more}"
    )


def keep_model(home: Path, name: str, more: str) -> None:
    (home / "models").mkdir(parents=True, exist_ok=True)
    (home / "models" / f"{name}.yaml").write_text(f"name: {name}\n{more}")
