"""Fingerprint of a model's files, so that work on another model is not mixed in."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import IO, Any

_PART = 1 << 16  # bytes hashed at either end of a tensor
_LONGEST = 1 << 28  # of a header that is believed
_WHOLE = (".json", ".jinja", ".model", ".txt")


def fingerprint(name: str) -> str | None:
    """Digest of a model folder: small files whole, of every tensor both ends.

    None where `name` is no folder (a hub id is identified by its revision).
    """
    folder = Path(name)
    if not folder.is_dir():
        return None
    state = hashlib.sha256()
    for path in sorted(folder.iterdir()):
        if path.suffix == ".safetensors":
            state.update(f"{path.name} {path.stat().st_size} ".encode())
            with path.open("rb") as file:
                _weights(file, state)
        elif path.suffix in _WHOLE and path.is_file():
            state.update(path.name.encode() + b" " + path.read_bytes())
    return state.hexdigest()[:16]


def _weights(file: IO[bytes], state: Any) -> None:
    """The header of a safetensors file, and both ends of each tensor."""
    length = int.from_bytes(file.read(8), "little")
    if length > _LONGEST:
        return  # no weights; loading it will say so
    header = file.read(length)
    state.update(header)
    try:
        tensors = {k: v for k, v in json.loads(header).items() if k != "__metadata__"}
        offsets = [tensor["data_offsets"] for tensor in tensors.values()]
    except (ValueError, AttributeError, KeyError, TypeError):
        offsets = []
    for start, end in sorted(offsets):
        for place in (start, max(start, end - _PART)):
            file.seek(8 + length + place)
            state.update(file.read(min(_PART, end - place)))
