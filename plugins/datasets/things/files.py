"""The pictures that scenes are made of: `things.yaml` lists them with their licences."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import yaml

from vg_engine.plugins.datasets import checks

FOLDER = Path(__file__).parent


@functools.cache
def listed() -> dict[str, dict[str, Any]]:
    """Read the list: `sources`, `cutouts` by noun, `backgrounds` by name."""
    text = (FOLDER / "things.yaml").read_text(encoding="utf-8")
    found: dict[str, dict[str, Any]] = yaml.safe_load(text)
    return found


@functools.cache
def revision() -> str:
    """Compute the digest of the files, with their names."""
    paths = [*FOLDER.glob("cutouts/*.png"), *FOLDER.glob("backgrounds/*.webp")]
    return checks.digest(
        *(part for path in sorted(paths) for part in (path.name, path.read_bytes()))
    )
