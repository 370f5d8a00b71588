"""Which model it was: a fingerprint of its files, so that work on another one is not mixed in."""

from __future__ import annotations

import hashlib
from pathlib import Path

_ENDS = 1 << 20  # bytes hashed at either end of a weights file
_WHOLE = (".json", ".jinja", ".model", ".txt")


def fingerprint(name: str) -> str | None:
    """Digest of a model folder: small files whole, weights by size and both ends.

    None where `name` is no folder (a hub id is told by its revision).
    """
    folder = Path(name)
    if not folder.is_dir():
        return None
    state = hashlib.sha256()
    for path in sorted(folder.iterdir()):
        if path.suffix == ".safetensors":
            size = path.stat().st_size
            with path.open("rb") as file:
                state.update(f"{path.name} {size}".encode())
                state.update(file.read(_ENDS))
                file.seek(max(0, size - _ENDS))
                state.update(file.read(_ENDS))
        elif path.suffix in _WHOLE and path.is_file():
            state.update(path.name.encode() + b" " + path.read_bytes())
    return state.hexdigest()[:16]
