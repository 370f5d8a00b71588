"""The user's own files: `defaults.yaml`, with the head set that each model takes, and others.

defaults.yaml
    llava-1.5-7b: mine          # a model of the registry, by its name
    org/model: other            # any hub id
    /data/checkpoints/x: third  # a folder
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from vg_engine.core.errors import InputError, OutputError
from vg_engine.registry import yaml_files
from vg_engine.registry.schema import Name, check

DEFAULTS = "defaults.yaml"
# Where configs of models with a picture keep what their decoder is like.
_DECODERS = ("text_config", "llm_config", "language_config")
_OTHERS = ("decoder", "thinker_config", "is_encoder_decoder", "per_layer_config", "block_configs")


def read_defaults(folder: Path) -> dict[str, str]:
    """Read the user's defaults: model to name of its head set; empty without a file.

    Args:
        folder: of the user's own entries.

    Raises:
        InputError: the file is broken; it is named.
    """
    path = folder / DEFAULTS
    if not os.path.lexists(path):
        return {}
    held = check(yaml_files.shown(path), dict[str, Name], yaml_files.load(path))
    if len({key.lower() for key in held}) < len(held):
        raise InputError(f"{yaml_files.shown(path)}: a model twice, in capitals too; keep one")
    return held


def write_defaults(folder: Path, chosen: Mapping[str, str]) -> Path:
    """Write `defaults.yaml`; if nothing is chosen, delete it.

    Raises:
        OutputError: it cannot be written.
    """
    path = folder / DEFAULTS
    if chosen:
        return write_file(path, yaml_files.dump(dict(sorted(chosen.items()))).encode())
    try:
        path.unlink(missing_ok=True)
    except OSError as error:
        raise _unwritable(path, error) from error
    return path


def write_file(path: Path, data: bytes) -> Path:
    """Write a file whole or not at all; its folder is made.

    Raises:
        OutputError: it cannot be written.
    """
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            part.write_bytes(data)
            part.replace(path)
        finally:
            part.unlink(missing_ok=True)
    except OSError as error:
        raise _unwritable(path, error) from error
    return path


def shape_of(config: Mapping[str, Any]) -> tuple[int, int]:
    """Read the number of decoder layers and of heads in each from a config.json; else (0, 0).

    Configs leave out their family's defaults, and families nest them differently: only plain
    numbers are taken, because a wrong one would refuse heads that fit.
    """
    inner = next((config[key] for key in _DECODERS if isinstance(config.get(key), Mapping)), config)
    if any(part.get(key) for part in (config, inner) for key in _OTHERS):
        return 0, 0
    layers, heads = inner.get("num_hidden_layers"), inner.get("num_attention_heads")
    if not (isinstance(layers, int) and isinstance(heads, int) and layers > 0 and heads > 0):
        return 0, 0
    return layers, heads


def _unwritable(path: Path, error: OSError) -> OutputError:
    cause = error.strerror or str(error)
    return OutputError(
        f"{path} cannot be written ({cause}); make its folder writable, or move it with "
        "VG_ENGINE_HOME"
    )
