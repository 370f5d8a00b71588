"""Checkpoints in any common form: safetensors or `.bin`, whole or sharded, read lazily.

Nothing is executed: pickles are read with `weights_only`, and mapped into memory instead of loaded.
"""

from __future__ import annotations

import json
import pickle
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open

from vg_engine.core.errors import InputError, ModelNotFoundError, WeightsError

_WHOLE = ("model.safetensors", "pytorch_model.bin")
_INDEX = ".index.json"
_PEFT = "adapter_config.json"
_LFS = b"version https://git-lfs"
NUMBERS = {
    "F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16,
    "I64": torch.int64, "I32": torch.int32, "I16": torch.int16, "I8": torch.int8,
    "U8": torch.uint8, "BOOL": torch.bool,
}  # fmt: skip


@dataclass(frozen=True)
class Entry:
    """A tensor's shape, type and file, known before it is read."""

    shape: tuple[int, ...]
    dtype: torch.dtype
    file: str

    def empty(self) -> torch.Tensor:
        """Make a tensor of this shape and type, without data."""
        return torch.empty(self.shape, dtype=self.dtype, device="meta")


class Checkpoint:
    """A folder with config.json and weights; tensors are read one at a time.

    Attributes:
        folder: the checkpoint's folder.
        config: config.json; empty where there is none and none is needed.
    """

    def __init__(self, folder: Path, config: Mapping[str, Any]) -> None:
        self.folder = folder
        self.config = config
        self._open: dict[str, Any] = {}

    @cached_property
    def entries(self) -> dict[str, Entry]:
        """Every key with shape, type and file, in the order of the files.

        Raises:
            WeightsError: files are missing or broken, or hold something else than plain tensors.
        """
        names, listed = _files(self.folder)
        found: dict[str, Entry] = {}
        for name in names:
            for key, entry in self._entries_of(name):
                if key in found:
                    raise WeightsError(f"{self.folder}: {key} is in {found[key].file} and {name}")
                found[key] = entry
        lost = sorted(set(listed) - set(found))
        if lost:
            raise WeightsError(
                f"{self.folder}: {lost[0]} ({len(lost)} in all) is in the index and in no file; "
                "download the checkpoint again"
            )
        return found

    def tensor(self, key: str) -> torch.Tensor:
        """Read the tensor of a key, on the CPU.

        Raises:
            WeightsError: its file is broken.
        """
        name = self.entries[key].file
        opened = self._opened(name)
        try:
            value = opened[key] if name.endswith(".bin") else opened.get_tensor(key)
        except (SafetensorError, OSError) as error:
            raise _broken(self.folder / name, error) from error
        assert isinstance(value, torch.Tensor)
        return value.detach()

    def close(self) -> None:
        """Let go of the files."""
        self._open.clear()

    def _entries_of(self, name: str) -> list[tuple[str, Entry]]:
        opened = self._opened(name)
        if name.endswith(".bin"):
            return [(k, Entry(tuple(v.shape), v.dtype, name)) for k, v in opened.items()]
        entries = []
        for key in opened.keys():  # noqa: SIM118 - no mapping
            part = opened.get_slice(key)
            dtype = NUMBERS.get(part.get_dtype())
            if dtype is None:
                raise WeightsError(
                    f"{self.folder / name}: {key} is of type {part.get_dtype()}, and only plain "
                    "weights are converted, no quantised ones"
                )
            entries.append((key, Entry(tuple(part.get_shape()), dtype, name)))
        return entries

    def _opened(self, name: str) -> Any:
        if name not in self._open:
            read = _mapped if name.endswith(".bin") else _safe
            self._open[name] = read(self.folder / name)
        return self._open[name]


class Sum(Checkpoint):
    """A delta with its base added; rows that the base lacks are kept unchanged."""

    def __init__(self, delta: Checkpoint, base: Checkpoint) -> None:
        super().__init__(delta.folder, delta.config)
        self._delta, self._base = delta, base

    @cached_property
    def entries(self) -> dict[str, Entry]:
        """The delta's entries; those of both must fit each other.

        Raises:
            WeightsError: the base does not belong to the delta.
        """
        found, base = self._delta.entries, self._base.entries
        wrong = [
            f"{key} {list(base[key].shape)} under {list(found[key].shape)}"
            for key in found
            if key in base and not _covers(found[key].shape, base[key].shape)
        ]
        lost = [key for key in base if key not in found and not key.endswith("inv_freq")]
        if wrong or lost:
            first = (wrong + [f"{key} is not in the delta" for key in lost])[0]
            raise WeightsError(
                f"{self._base.folder} is not the base of {self.folder}: {first}; give the model "
                "that the delta was made from"
            )
        return found

    def tensor(self, key: str) -> torch.Tensor:
        """Add the delta's and the base's tensor in float32; the result has the delta's type."""
        delta = self._delta.tensor(key)
        if key not in self._base.entries:
            return delta
        base = self._base.tensor(key)
        total = delta.to(torch.float32, copy=True)
        total[tuple(slice(0, length) for length in base.shape)] += base.to(torch.float32)
        return total.to(delta.dtype)

    def close(self) -> None:
        """Let go of the files."""
        self._delta.close()
        self._base.close()


def _covers(shape: tuple[int, ...], base: tuple[int, ...]) -> bool:
    return (
        shape[1:] == base[1:] and len(shape) == len(base) and (shape == base or shape[0] >= base[0])
    )


def open_checkpoint(folder: Path, *, what: str = "model folder", config: bool = True) -> Checkpoint:
    """Open a checkpoint; its weights are read on demand.

    Args:
        folder: the checkpoint's folder.
        what: the kind of folder, for messages.
        config: whether it needs a config.json.

    Raises:
        ModelNotFoundError: the folder or its config.json does not exist.
        InputError: config.json cannot be read.
    """
    if not folder.is_dir():
        raise ModelNotFoundError(f"no {what} {str(folder)!r}; download it and give its folder")
    path = folder / "config.json"
    if not path.is_file():
        if config:
            raise ModelNotFoundError(f"{folder} holds no config.json, so it is no {what}")
        return Checkpoint(folder, {})
    return Checkpoint(folder, read_json(path))


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON file that holds an object.

    Raises:
        InputError: it cannot be read, or holds something else.
    """
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"{path} cannot be read ({line(error)}); download it again") from error
    if not isinstance(value, dict):
        raise InputError(f"{path} holds no JSON object; download it again")
    return value


def read_json_beside(folder: Path, name: str) -> dict[str, Any]:
    """Read a JSON file that a folder may lack, which is then an empty object.

    Raises:
        InputError: it cannot be read, or holds something else.
    """
    return read_json(folder / name) if (folder / name).is_file() else {}


def _files(folder: Path) -> tuple[list[str], list[str]]:
    """List the files with weights, and the keys that an index lists."""
    for whole in _WHOLE:
        # As in transformers, the whole file goes first: an index beside it is left over.
        if (folder / whole).is_file():
            return [whole], []
        index = folder / (whole + _INDEX)
        if index.is_file():
            listed = read_json(index).get("weight_map")
            if not isinstance(listed, dict) or not all(isinstance(v, str) for v in listed.values()):
                raise WeightsError(f"{index} holds no weight_map; download it again")
            names = sorted(set(listed.values()))
            strange = [
                n for n in names if Path(n).name != n or Path(n).suffix != Path(whole).suffix
            ]
            if strange:
                raise WeightsError(f"{index} names {strange[0]!r}, which is no file of this folder")
            missing = [name for name in names if not (folder / name).is_file()]
            if missing:
                raise WeightsError(
                    f"{folder} lacks {', '.join(missing)}, named by {index.name}; download the rest"
                )
            return names, list(listed)
    if (folder / _PEFT).is_file():
        raise WeightsError(
            f"{folder} holds a peft adapter alone ({_PEFT}); merge it into its base model with the "
            "authors' own script, save that and convert it"
        )
    raise WeightsError(
        f"{folder} holds no weights ({' or '.join(_WHOLE)}, or shards with their index)"
    )


def _safe(path: Path) -> Any:
    _check_downloaded(path)
    try:
        return safe_open(path, framework="pt")
    except (SafetensorError, OSError) as error:
        raise _broken(path, error) from error


def _mapped(path: Path) -> dict[str, torch.Tensor]:
    _check_downloaded(path)
    try:
        value = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except pickle.UnpicklingError as error:
        raise WeightsError(
            f"{path} holds pickled objects beside tensors, and nothing of a source is executed; "
            "ask its author for plain weights or safetensors"
        ) from error
    except (RuntimeError, OSError, EOFError, ValueError) as error:
        if "mmap can only be used" in str(error):
            raise WeightsError(
                f"{path} is broken, or in the format of torch before 1.6; download it again, or "
                "load and save it once with a current torch"
            ) from error
        raise _broken(path, error) from error
    if not isinstance(value, dict) or not all(isinstance(v, torch.Tensor) for v in value.values()):
        raise WeightsError(f"{path} is no table of tensors, so it holds no model's weights")
    return {str(key): tensor.detach() for key, tensor in value.items()}


def _check_downloaded(path: Path) -> None:
    try:
        with path.open("rb") as file:
            start = file.read(len(_LFS))
    except OSError as error:
        raise _broken(path, error) from error
    if start == _LFS:
        raise WeightsError(f"{path} is a placeholder of git-lfs; fetch the file: git lfs pull")


def _broken(path: Path, error: BaseException) -> WeightsError:
    return WeightsError(f"{path} is broken or cut short ({line(error)}); download it again")


def line(error: BaseException) -> str:
    """Return the first line of an error's message, else its kind."""
    lines = str(error).strip().splitlines()
    return lines[0].strip() if lines else type(error).__name__
