"""Writer of safetensors that holds one tensor in memory at a time.

The format: eight bytes with the length of a JSON header, the header (name -> type, shape, place),
the bytes of all tensors. Everything in the header is known before the first tensor is read.
safetensors itself can only write a whole file from memory, which is a shard of 4 GB at a time.
"""

from __future__ import annotations

import errno
import json
import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import torch
from huggingface_hub import split_state_dict_into_shards_factory

from vg_engine.core.errors import OutputError
from vg_engine.model_adapters.conversion.schedule import Job
from vg_engine.model_adapters.conversion.source import NUMBERS, line

Progress = Callable[[str, int, int], None]

SHARD_BYTES = 4_000_000_000
_SPARE = 64_000_000  # for the files beside the weights
_NAMES = {dtype: name for name, dtype in NUMBERS.items()}


def write_weights(
    folder: Path, jobs: Sequence[Job], progress: Progress, *, shard_bytes: int = SHARD_BYTES
) -> list[str]:
    """Write `model.safetensors`, or shards with their index.

    Args:
        folder: an existing folder.
        jobs: the jobs to write, in order.
        progress: called with the step's name, the bytes written and the bytes in all.
        shard_bytes: size at which a new shard begins; one tensor's outputs stay together.

    Returns:
        Names of the files with weights.
    """
    planned = split_state_dict_into_shards_factory(
        {str(number): job for number, job in enumerate(jobs)},
        get_storage_size=lambda job: job.size,
        filename_pattern="model{suffix}.safetensors",
        max_shard_size=shard_bytes,
    )
    total = planned.metadata["total_size"]
    done = 0
    weight_map: dict[str, str] = {}
    for name, numbers in planned.filename_to_tensors.items():
        shard = [jobs[int(number)] for number in numbers]
        with (folder / name).open("wb") as file:
            file.write(_header(shard))
            for job in shard:
                for output, tensor in job.tensors():
                    progress(f"{name}: {output.name}", done, total)
                    flat = tensor.contiguous().reshape(-1).view(torch.uint8)
                    file.write(flat.numpy().data)
                    done += output.size
                    weight_map[output.name] = name
    progress("weights", total, total)
    if planned.is_sharded:
        index = {"metadata": planned.metadata, "weight_map": dict(sorted(weight_map.items()))}
        text = json.dumps(index, indent=2) + "\n"
        (folder / "model.safetensors.index.json").write_text(text, encoding="utf-8")
    return list(planned.filename_to_tensors)


def _header(shard: Sequence[Job]) -> bytes:
    header: dict[str, object] = {"__metadata__": {"format": "pt"}}
    at = 0
    for job in shard:
        for output in job.outputs:
            header[output.name] = {
                "dtype": _NAMES[output.dtype],
                "shape": list(output.shape),
                "data_offsets": [at, at + output.size],
            }
            at += output.size
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text


def check_target(target: Path, sources: Sequence[Path]) -> None:
    """Refuse a destination before anything is done.

    Raises:
        OutputError: it exists and is not empty, or lies inside a source.
    """
    resolved = target.expanduser().resolve()
    for source in sources:
        if resolved.is_relative_to(source.expanduser().resolve()):
            raise OutputError(f"{target} lies inside {source}; choose a folder outside of it")
    if resolved.is_dir():
        if any(resolved.iterdir()):
            raise OutputError(f"{target} exists and is not empty; choose a new folder")
    elif resolved.exists():
        raise OutputError(f"{target} is a file; choose a new folder")


@contextmanager
def whole_folder(target: Path, size: int) -> Iterator[Path]:
    """Make a folder that becomes `target` if the block succeeds, and is removed if it fails.

    Args:
        target: does not exist, or is an empty folder.
        size: bytes of the weights; free space is checked before anything is written.

    Raises:
        OutputError: there is not enough space, or no permission.
    """
    made: list[Path] = []
    folder: Path | None = None
    resolved = target.expanduser().resolve()
    try:
        _make_parents(resolved.parent, made)
        free = shutil.disk_usage(resolved.parent).free
        if free < size + _SPARE:
            raise OutputError(
                f"{target} needs {(size + _SPARE) / 1e9:.1f} GB and {free / 1e9:.1f} GB are free; "
                "make room, or choose another disk"
            )
        # Beside the target: a rename is atomic only inside one file system.
        folder = Path(tempfile.mkdtemp(prefix=f".{resolved.name}.", dir=resolved.parent))
        yield folder
        folder.chmod(0o777 & ~_umask(folder))
        if resolved.is_dir():
            resolved.rmdir()
        folder.rename(resolved)
        folder, made = None, []
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise OutputError(f"{target}: the disk is full; nothing was left there") from error
        raise OutputError(f"{target} cannot be written ({line(error)})") from error
    finally:
        if folder is not None:
            shutil.rmtree(folder, ignore_errors=True)
        for parent in reversed(made):
            if parent.is_dir() and not any(parent.iterdir()):
                parent.rmdir()


def _make_parents(parent: Path, made: list[Path]) -> None:
    missing = [path for path in (parent, *parent.parents) if not path.exists()]
    for path in reversed(missing):
        path.mkdir()
        made.append(path)


def _umask(folder: Path) -> int:
    """Read the process's umask from a new folder: asking the system for it would change it."""
    probe = folder / ".probe"
    probe.mkdir()
    mask = 0o777 & ~probe.stat().st_mode
    probe.rmdir()
    return mask
