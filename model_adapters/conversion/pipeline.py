"""From an original folder to a native one: find the converter, check, write, rename."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch

from vg_engine.core.errors import InputError
from vg_engine.model_adapters.conversion import schedule as schedules
from vg_engine.model_adapters.conversion.formats import converter_for
from vg_engine.model_adapters.conversion.protocol import Converter, Plan, Request
from vg_engine.model_adapters.conversion.schedule import Schedule
from vg_engine.model_adapters.conversion.shard_writer import (
    SHARD_BYTES,
    Progress,
    check_target,
    whole_folder,
    write_weights,
)
from vg_engine.model_adapters.conversion.source import (
    Checkpoint,
    Sum,
    open_checkpoint,
    read_json,
)

REPORT = "vg_engine_conversion.json"
_DELTA_BELOW = 0.1  # a trained model's last norm multiplies by about one and more


@dataclass(frozen=True)
class Folders:
    """The folders that the user named.

    Attributes:
        source, target: the folder to read, and the folder to make.
        vision_tower: tower for a checkpoint without one.
        base: base model of a delta.
    """

    source: Path
    target: Path
    vision_tower: Path | None = None
    base: Path | None = None

    def given(self) -> list[Path]:
        """List the folders that are read."""
        return [f for f in (self.source, self.vision_tower, self.base) if f is not None]


def _silent(what: str, done: int, total: int) -> None:
    del what, done, total


def convert(
    folders: Folders,
    known: Sequence[Converter],
    *,
    tool: str = "",
    progress: Progress = _silent,
    shard_bytes: int = SHARD_BYTES,
) -> dict[str, Any]:
    """Convert a checkpoint; after an error nothing is left in the target.

    Args:
        folders: the folders to read and to make.
        known: the installed converters.
        tool: name and version, for the report.
        progress: called with the step's name, the bytes done and the bytes in all.
        shard_bytes: size at which a new shard begins.

    Returns:
        The report, which is also written into the target as `vg_engine_conversion.json`.

    Raises:
        VGError: the user's input cannot be converted.
    """
    source = open_checkpoint(folders.source)
    check_target(folders.target, folders.given())
    converter = converter_for(source.config, known, name=str(folders.source))
    request = _request(source, folders, converter)
    try:
        plan = converter.plan(request)
        scheduled = schedules.make(plan)
        with whole_folder(folders.target, scheduled.size) as folder:
            files = write_weights(folder, scheduled.jobs, progress, shard_bytes=shard_bytes)
            _write_beside(folder, plan, scheduled, source)
            report = _report(folders, converter, plan, scheduled, files) | {"tool": tool}
            text = json.dumps(report, indent=2, ensure_ascii=False) + "\n"
            (folder / REPORT).write_text(text, encoding="utf-8")
    finally:
        request.source.close()
    return report


def _request(source: Checkpoint, folders: Folders, converter: Converter) -> Request:
    tower = None
    if folders.vision_tower is not None:
        if not converter.takes_tower:
            raise InputError(f"format {converter.name} holds its vision tower; no --vision-tower")
        tower = open_checkpoint(folders.vision_tower, what="vision tower")
    delta = _is_delta(source, converter.delta_norm)
    if folders.base is None:
        if delta:
            raise InputError(
                f"{folders.source} holds delta weights (differences to a base model); give the "
                "model that they were made from, in transformers' format: --base DIR"
            )
        return Request(source, tower)
    if not delta:
        raise InputError(f"{folders.source} holds whole weights, no deltas; leave --base out")
    base = open_checkpoint(folders.base, what="base model")
    return Request(Sum(source, base), tower, was_delta=True)


def _is_delta(source: Checkpoint, norm: str | None) -> bool:
    """Check whether the last norm's weights are differences: near zero, unlike a model's."""
    if norm is None or norm not in source.entries:
        return False
    return float(source.tensor(norm).to(torch.float32).abs().median()) < _DELTA_BELOW


def _write_beside(folder: Path, plan: Plan, scheduled: Schedule, source: Checkpoint) -> None:
    config = plan.config
    config.architectures = [plan.model_class.__name__]
    config.dtype = scheduled.dtype
    config.save_pretrained(folder)
    if plan.extra:
        path = folder / "config.json"
        whole = read_json(path) | dict(plan.extra)
        path.write_text(json.dumps(whole, indent=2, sort_keys=True) + "\n", encoding="utf-8")
    if plan.processor is not None:
        plan.processor.save_pretrained(folder)
    for name in plan.copied:
        if (source.folder / name).is_file():
            shutil.copyfile(source.folder / name, folder / name)


def _report(
    folders: Folders, converter: Converter, plan: Plan, scheduled: Schedule, files: list[str]
) -> dict[str, Any]:
    rules: list[Mapping[str, Any]] = [
        {
            "pattern": rule.pattern,
            "names": list(rule.names),
            "tensors": count,
            "known": rule.known or None,
        }
        for rule, count in scheduled.used.items()
    ]
    return {
        "format": converter.name,
        "source": str(folders.source),
        "vision_tower": str(folders.vision_tower) if folders.vision_tower else None,
        "base": str(folders.base) if folders.base else None,
        "target": str(folders.target),
        "model_class": plan.model_class.__name__,
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "tensors": sum(len(job.outputs) for job in scheduled.jobs),
        "bytes": scheduled.size,
        "dtype": str(scheduled.dtype).removeprefix("torch."),
        "files": files,
        "checked_with_public_script": [rule for rule in rules if rule["known"]],
        "assumed_never_seen": [rule for rule in rules if not rule["known"]],
        "made": list(scheduled.made),
        "rows_added": list(scheduled.grown),
        "dropped": list(scheduled.dropped),
        "statements": list(plan.statements),
    }
