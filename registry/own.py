"""What the user keeps: which head set a model takes, in `defaults.yaml`, and files written whole.

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
from vg_engine.registry import strict

DEFAULTS = "defaults.yaml"
# Where configs of models with a picture keep what their decoder is like.
_DECODERS = ("text_config", "llm_config", "language_config")
_OTHERS = ("decoder", "thinker_config", "is_encoder_decoder", "per_layer_config", "block_configs")


def read_defaults(folder: Path) -> dict[str, str]:
    """Model -> name of its head set, as the user chose; empty without a file.

    Args:
        folder: the user's own.

    Raises:
        InputError: the file is broken; it is named.
    """
    path = folder / DEFAULTS
    if not os.path.lexists(path):
        return {}
    where, held = strict.shown(path), strict.load(path)
    if held is None:
        return {}
    if not isinstance(held, Mapping) or not all(
        isinstance(part, str) and part for pair in held.items() for part in pair
    ):
        raise InputError(f"{where} must hold `model: head set` lines; mend or remove it")
    return dict(held)


def write_defaults(folder: Path, chosen: Mapping[str, str]) -> Path:
    """Write `defaults.yaml` anew; where nothing is chosen, take it away.

    Raises:
        OutputError: it cannot be written.
    """
    path = folder / DEFAULTS
    if chosen:
        return write_file(path, strict.dump(dict(sorted(chosen.items()))).encode())
    try:
        path.unlink(missing_ok=True)
    except OSError as error:
        raise _unwritable(path, error) from error
    return path


def write_file(path: Path, data: bytes) -> Path:
    """Write a file of the user's folder whole or not at all; the folder is made.

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
    """Decoder layers and heads in each, as far as a config.json tells; (0, 0) where it does not.

    Configs leave out what is their family's default, and families nest theirs as they like: only
    what is plain is taken, for a wrong number would refuse heads that fit.
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
