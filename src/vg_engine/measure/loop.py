"""Going through a data set a batch at a time, so that any moment is a good one to stop.

Which samples share a batch follows from the list of samples alone. A batch whose pictures or
sentences fail is taken apart, and what fails alone is a fault: recorded, counted, never dropped.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

import torch

from vg_engine.core.contract.picture import Picture
from vg_engine.core.engine.engine import Engine
from vg_engine.core.errors import InputError, VGError
from vg_engine.core.evaluation.draws import Unit
from vg_engine.core.evaluation.samples import DataSet, Fault, Sample, as_fault, fit_boxes
from vg_engine.measure.identity import fingerprint
from vg_engine.plugins.journal import Journal, digest

Item = TypeVar("Item")
Found = TypeVar("Found")
# Told of the work as it goes on: so many of so many sentences are behind us.
Told = Callable[[int, int], None]


def quiet(done: int, total: int) -> None:
    """Tell nothing."""


@dataclass(frozen=True, eq=False)
class Read:
    """A data set's records."""

    samples: tuple[Sample, ...]
    faults: tuple[Fault, ...]


def read(data: DataSet, *, strict: bool = False) -> Read:
    """All records of a data set; samples are light, their pictures stay where they are.

    Raises:
        InputError: with `strict`, the first fault; else a data set without any sample.
    """
    samples, faults = [], []
    files: dict[str, str] = {}
    for record in data:
        if isinstance(record, Sample):
            record = _of_one_file(record, files)  # noqa: PLW2901 - the same, or its fault
        if isinstance(record, Sample):
            samples.append(record)
            continue
        if strict:
            raise InputError(f"{record.id}: {record.error} (--strict stops at the first fault)")
        faults.append(record)
    if not samples:
        first = f"; the first of {len(faults)} faults: {faults[0].error}" if faults else ""
        raise InputError(f"{data.name} holds no sample that can be used{first}")
    return Read(tuple(samples), tuple(faults))


def _of_one_file(sample: Sample, files: dict[str, str]) -> Sample | Fault:
    """The sample, unless its picture's name was given to another file before."""
    if not isinstance(sample.image, str | Path):
        return sample
    file = files.setdefault(sample.picture, str(sample.image))
    if file == str(sample.image):
        return sample
    return Fault(
        sample.id,
        f"its picture {sample.picture!r} was another file before ({Path(file).name}); samples that "
        "share a picture's name are about the same pixels: give each file a name of its own",
    )


def listed(found: Read) -> str:
    """Digest of which records there are, in their order: work on another list is other work."""
    return digest([*((one.id, one.picture) for one in found.samples), *map(asdict, found.faults)])


def limited(data: DataSet, limit: int | None) -> DataSet:
    """The data set up to its sample number `limit`; what cannot be read before it is told, too."""
    if limit is None:
        return data

    def records() -> Iterator[Sample | Fault]:
        left = limit
        for record in data:
            yield record
            left -= isinstance(record, Sample)
            if not left:
                return

    return replace(data, records=records)


def check_truth(data: DataSet, found: Read) -> None:
    """Refuse data that answers cannot be scored against.

    Raises:
        InputError: no sample has a true box or mask.
    """
    if all(sample.boxes is None and sample.mask is None for sample in found.samples):
        raise InputError(
            f"{data.name} has no true boxes and no true masks: there is nothing to score against; "
            "give samples a box, boxes or a mask"
        )


def failed(records: Iterable[Mapping[str, Any]]) -> list[Fault]:
    """The faults among records of one sample each."""
    return [Fault(record["id"], record["error"]) for record in records if "error" in record]


def through(
    journal: Journal,
    found: Read,
    grouped: Sequence[Sequence[Unit]],
    work: Callable[[Sequence[Unit]], Sequence[Mapping[str, Any]]],
    *,
    strict: bool,
    told: Told,
    after: Callable[[Sequence[Any]], None] = lambda _: None,
) -> None:
    """Do every batch that the journal does not hold yet, a record per sample.

    What could not even be read is a batch of its own, the first.

    Args:
        journal: gone on with.
        found: what was read.
        grouped: all batches.
        work: a batch's records.
        strict: the first fault, an old one too, stops everything.
        told: called after each batch.
        after: called with each new batch's records, once they are written.
    """
    old_faults(journal.records(), strict=strict)
    first = 1 if found.faults else 0
    if first and not journal.done:
        unread = fault_records(found.faults)
        journal.append(unread)
        after(unread)
    sizes = [sum(len(unit.samples) for unit in batch) for batch in grouped]
    start = journal.done - first
    total, done = sum(sizes), sum(sizes[:start])
    told(done, total)
    for batch, size in zip(grouped[start:], sizes[start:], strict=True):
        made = work(batch)
        stop_if_strict(failed(made), strict=strict)
        journal.append(made)
        after(made)
        done += size
        told(done, total)


def old_faults(records: Iterable[Mapping[str, Any]], *, strict: bool) -> None:
    """With `strict`, a fault that was recorded before ends the work as a new one does.

    Raises:
        InputError: there is one.
    """
    if strict:
        for record in records:
            stop_if_strict(failed(record.get("faults", [record])), strict=True)


def open_picture(engine: Engine, sample: Sample) -> Picture:
    """The decoded picture of a sample, after checking that its true boxes lie in it.

    Raises:
        VGError: the picture cannot be used, or a box does not fit.
    """
    picture = engine.picture(sample.open())
    if sample.boxes is not None:
        fit_boxes(sample.boxes, picture.size)
    return picture


def guarded(
    work: Callable[[Sequence[Item]], Found], items: Sequence[Item]
) -> Iterator[tuple[Sequence[Item], Found | VGError]]:
    """Do a batch whole; if it fails, in halves, and so on until what fails stands alone.

    What runs out of memory is halved as well. Each part comes with what became of it, in order.
    """
    try:
        found = work(items)
    except VGError as error:
        failed: VGError = error
    except torch.OutOfMemoryError:
        failed = InputError("out of memory, even alone; use a smaller picture or another device")
    else:
        yield items, found
        return
    if len(items) == 1:
        yield items, failed
        return
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    middle = len(items) // 2
    for part in (items[:middle], items[middle:]):
        yield from guarded(work, part)


def fault_records(faults: Sequence[Fault]) -> list[dict[str, Any]]:
    """Faults as records keep them."""
    return [{"id": fault.id, "error": fault.error} for fault in faults]


def stop_if_strict(faults: Sequence[Fault], *, strict: bool) -> None:
    """With `strict` the first fault ends the work.

    Raises:
        InputError: there is one.
    """
    if strict and faults:
        raise InputError(f"{faults[0].id}: {faults[0].error} (--strict stops at the first fault)")


def told(error: VGError, samples: Sequence[Sample]) -> list[Fault]:
    """The faults of samples that failed together."""
    return [as_fault(sample.id, error) for sample in samples]


def asking(engine: Engine) -> dict[str, Any]:
    """How the engine asks, as far as maps depend on it: model, adapter, prompt, precision."""
    prompt = engine.settings.prompt
    stamp = engine.stamp()
    # A folder counts by its name and what is in it, wherever it lies.
    folder = Path(stamp["model"])
    name = folder.resolve().name if folder.is_dir() else stamp["model"]
    return {
        "tool": stamp.get("tool"),
        "model": stamp.get("entry") or name,
        "fingerprint": fingerprint(stamp["model"]),
        "revision": stamp["revision"],
        "entry": stamp.get("entry"),
        "adapter": stamp["adapter"],
        "dtype": stamp["dtype"],
        "device": stamp["device"],
        "layers": engine.model.layers,
        "heads_per_layer": engine.model.heads,
        "statements": list(engine.model.statements),
        "prompt": {
            "form": prompt.form,
            "template": prompt.template,
            "query_row": prompt.query_row,
            **({"system": prompt.system} if prompt.system else {}),
        },
    }
