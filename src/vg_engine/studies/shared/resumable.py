"""Resumable work: a data set is gone through batch by batch, and each batch goes into a journal.

Which samples share a batch follows from the list of samples alone. What fails is a fault: recorded,
counted, never dropped.
"""

from __future__ import annotations

import itertools
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from vg_engine.core.engine.engine import Engine
from vg_engine.core.errors import InputError, OutputError
from vg_engine.core.evaluation.draws import Unit
from vg_engine.core.evaluation.samples import DataSet, Fault, Sample
from vg_engine.plugins.datasets.names import Data, open_data
from vg_engine.plugins.files import prepare_folder
from vg_engine.studies.shared.fingerprint import fingerprint
from vg_engine.studies.shared.journal import Journal, digest

SHOWN_FAULTS = 20
# Called as the work goes on: so many of so many sentences are done.
Progress = Callable[[int, int], None]


def no_progress(done: int, total: int) -> None:
    """Show nothing."""


@dataclass(frozen=True, eq=False)
class SampleList:
    """A data set that was read once: its samples are light, their pictures stay where they are."""

    data: DataSet
    samples: tuple[Sample, ...]
    faults: tuple[Fault, ...]

    @property
    def digest(self) -> str:
        """Digest of the list of records, in order: work on another list is other work."""
        return digest([*((one.id, one.picture) for one in self.samples), *map(asdict, self.faults)])

    def check_truth(self) -> None:
        """Refuse data that answers cannot be scored against.

        Raises:
            InputError: no sample has a true box or mask.
        """
        if all(sample.boxes is None and sample.mask is None for sample in self.samples):
            raise InputError(
                f"{self.data.name} has no true boxes and no true masks: there is nothing to score "
                "against; give samples a box, boxes or a mask"
            )


def read_samples(data: Data, *, limit: int | None = None, strict: bool = False) -> SampleList:
    """Read the records of a data set.

    Args:
        data: a data set, its name, or a list of samples.
        limit: only up to the sample of that number; faults before it are kept.
        strict: refuse the first fault.

    Raises:
        InputError: with `strict`, the first fault; else a data set without any sample.
    """
    data = open_data(data)
    samples: list[Sample] = []
    faults: list[Fault] = []
    files: dict[str, str] = {}
    left = limit
    for record in data:
        if left is not None:
            left -= isinstance(record, Sample)
        one = _of_one_file(record, files) if isinstance(record, Sample) else record
        if isinstance(one, Sample):
            samples.append(one)
        else:
            stop_if_strict([one], strict=strict)
            faults.append(one)
        if left == 0:
            break
    if not samples:
        first = f"; the first of {len(faults)} faults: {faults[0].error}" if faults else ""
        raise InputError(f"{data.name} holds no sample that can be used{first}")
    return SampleList(data, tuple(samples), tuple(faults))


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


@contextmanager
def work_folder(out: Path | str | None) -> Iterator[Path]:
    """Make the folder of a journal; None takes a temporary one, which is removed afterwards.

    Raises:
        OutputError: it cannot be made.
    """
    if out is not None:
        yield prepare_folder(Path(out))
        return
    try:
        made = tempfile.TemporaryDirectory(prefix="vg-engine-")
    except OSError as error:
        cause = error.strerror or str(error)
        raise OutputError(
            f"no temporary folder can be made ({cause}); name a folder with --out"
        ) from error
    with made as folder:
        yield Path(folder)


def run_batches(
    journal: Journal,
    found: SampleList,
    grouped: Sequence[Sequence[Unit]],
    work: Callable[[Sequence[Unit]], Sequence[Mapping[str, Any]]],
    *,
    strict: bool,
    progress: Progress,
    after: Callable[[Sequence[Any]], None] = lambda _: None,
) -> None:
    """Do every batch that the journal does not hold yet, a record per sample.

    The records that could not be read are a batch of their own, the first.

    Args:
        journal: where the work goes on.
        found: the samples.
        grouped: all batches.
        work: makes a batch's records.
        strict: the first fault, an old one too, stops everything.
        progress: called after each batch.
        after: called with each new batch's records, once they are written.
    """
    refuse_old_faults(journal.records(), strict=strict)
    first = 1 if found.faults else 0
    if first and not journal.done:
        unread = fault_records(found.faults)
        journal.append(unread)
        after(unread)
    sizes = [sum(len(unit.samples) for unit in batch) for batch in grouped]
    start = journal.done - first
    total, done = sum(sizes), sum(sizes[:start])
    progress(done, total)
    for batch, size in zip(grouped[start:], sizes[start:], strict=True):
        made = work(batch)
        stop_if_strict(_faults(made), strict=strict)
        journal.append(made)
        after(made)
        done += size
        progress(done, total)


def refuse_old_faults(records: Iterable[Mapping[str, Any]], *, strict: bool) -> None:
    """With `strict`, a fault that was recorded before ends the work as a new one does.

    Raises:
        InputError: there is one.
    """
    if strict:
        for record in records:
            stop_if_strict(_faults(record.get("faults", [record])), strict=True)


def stop_if_strict(faults: Sequence[Fault], *, strict: bool) -> None:
    """With `strict` the first fault ends the work.

    Raises:
        InputError: there is one.
    """
    if strict and faults:
        raise InputError(f"{faults[0].id}: {faults[0].error} (--strict stops at the first fault)")


def first_faults(journal: Journal) -> tuple[tuple[Fault, ...], int]:
    """The first faults among a journal's records of one sample each, and how many there are."""
    failed = (record for record in journal.records() if "error" in record)
    first = _faults(itertools.islice(failed, SHOWN_FAULTS))
    return tuple(first), len(first) + sum(1 for _ in failed)


def nothing_scored(data: DataSet, faults: Sequence[Fault], count: int) -> InputError:
    """The error of a data set of which no sample could be scored."""
    why = f"; the first of {count} faults: {faults[0].id}: {faults[0].error}" if faults else ""
    return InputError(f"no sample of {data.name} could be scored{why}")


def fault_records(faults: Sequence[Fault]) -> list[dict[str, Any]]:
    """Faults as records keep them."""
    return [{"id": fault.id, "error": fault.error} for fault in faults]


def faults_json(faults: Sequence[Fault], count: int | None = None) -> dict[str, Any]:
    """Faults for people: how many (all of them, without `count`), and the first."""
    number = len(faults) if count is None else count
    return {"count": number, "first": fault_records(faults[:SHOWN_FAULTS])}


def _faults(records: Iterable[Mapping[str, Any]]) -> list[Fault]:
    return [Fault(record["id"], record["error"]) for record in records if "error" in record]


def settings_of(engine: Engine, found: SampleList) -> dict[str, Any]:
    """Collect the settings that maps depend on: model, adapter, prompt, precision, data."""
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
        "options": stamp.get("options", {}),
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
            **({} if prompt.ending is None else {"ending": prompt.ending}),
        },
        "data": found.data.name,
        "data_revision": found.data.revision,
        "records": found.digest,
        "batch_size": engine.settings.batch_size,
    }
