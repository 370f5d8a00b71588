"""Finding the localization heads of a model (paper, section 3): `vg_engine.discover`.

Every drawn picture is looked at once with all heads; what was measured goes into a journal, so that
the work can be stopped at any moment. The modes then rank the heads from the journal, a block at a
time: memory does not grow with the samples, and another mode over the same journal runs no model.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float64

from vg_engine.core.engine.engine import Engine
from vg_engine.core.errors import HeadsError, InputError
from vg_engine.core.evaluation.draws import Draws, batches, draw, units
from vg_engine.core.evaluation.samples import DataSet, Fault, Sample
from vg_engine.core.heads import Head
from vg_engine.core.selection import head_statistics
from vg_engine.core.selection.head_statistics import COLUMNS as KNOWN
from vg_engine.core.selection.head_statistics import Criteria
from vg_engine.core.selection.ranking import TOP, Block, DrawnStatistics, Selection, select
from vg_engine.measure import loop
from vg_engine.measure.looking import COLUMNS, FAULTS, SAMPLES, Look, look
from vg_engine.measure.modes import Mode, find_mode, needed
from vg_engine.plugins.files import prepare_folder
from vg_engine.plugins.journal import Journal, header, unpack

JOURNAL = "observations.jsonl"
NEUTRAL = "describe the image"
SINGLES = 200


@dataclass(frozen=True)
class Settings:
    """How heads are looked for; the defaults are the paper's.

    Attributes:
        samples, draws, seed: sentences per random draw, number of draws.
        k: heads to fix; None lets every candidate of the mode stay.
        per_sample: N, votes per sample, for modes that count votes.
        criteria: how the entropy is taken.
        neutral: the neutral prompt, for modes that contrast with it.
        singles: samples on which each head's own box is measured, where boxes are known.
    """

    samples: int = 1000
    draws: int = 5
    seed: int = 0
    k: int | None = TOP
    per_sample: int | None = None
    criteria: Criteria = field(default_factory=Criteria)
    neutral: str = NEUTRAL
    singles: int = SINGLES

    def __post_init__(self) -> None:
        if self.k is not None and self.k < 1:
            raise InputError(f"k must be at least 1, got {self.k}")
        if self.singles < 0:
            raise InputError(f"singles must not be negative, got {self.singles}")


@dataclass(frozen=True, eq=False)
class Discovery:
    """What was found.

    Attributes:
        found: selection per mode, as the user named it; the first is the chosen one.
        modes: each as it was found, by the same texts.
        heads: every head that was looked at.
        means: per column (`COLUMNS` of `vg_engine.core.selection.head_statistics`) its mean over
            all that was drawn, per head; NaN where it was not measured.
        settings: what the observations depend on, as the journal keeps it.
        remarks: when the work began.
        in_data, drawn, measured: sentences in the data set, in any draw, and without a fault.
        faults: what could not be used.
        resampled: the draws are resamples of a small data set.
        statements: what the data set and the model say of themselves.
    """

    found: Mapping[str, Selection]
    modes: Mapping[str, Mode]
    heads: tuple[Head, ...]
    means: Mapping[str, Float64[np.ndarray, " heads"]]
    settings: Mapping[str, Any]
    remarks: Mapping[str, Any]
    in_data: int
    drawn: int
    measured: int
    faults: tuple[Fault, ...]
    resampled: bool
    statements: tuple[str, ...]

    @property
    def chosen(self) -> Selection:
        """The selection of the first mode."""
        return next(iter(self.found.values()))

    @property
    def mode(self) -> Mode:
        """The first mode."""
        return next(iter(self.modes.values()))


def discover(
    engine: Engine,
    data: DataSet,
    out: Path,
    *,
    modes: Sequence[str] = ("paper",),
    settings: Settings | None = None,
    strict: bool = False,
    remarks: Mapping[str, Any] | None = None,
    told: loop.Told = loop.quiet,
) -> Discovery:
    """Find heads.

    Args:
        engine: asks with its own prompt and query row; its region reads the heads' own boxes.
        data: sentences about pictures. Supervised modes need boxes.
        out: folder of the journal; what is there already is gone on with.
        modes: their names, the chosen one first.
        settings: how heads are looked for.
        strict: the first fault stops everything.
        remarks: kept in the journal when it is begun (the date).
        told: called after each batch.

    Raises:
        InputError: modes, data and settings that do not go together, or a journal of others.
        HeadsError: what was observed tells a mode nothing.
        OutputError: the journal cannot be written; what was done stays.
    """
    settings = settings or Settings()
    chosen = _modes(modes, settings)
    records = loop.read(data, strict=strict)
    boxes = any(sample.boxes is not None and len(sample.boxes) for sample in records.samples)
    what = _look(chosen, settings, boxes=boxes)
    drawn = draw(
        [sample.picture for sample in records.samples],
        size=settings.samples,
        draws=settings.draws,
        seed=settings.seed,
    )
    path = prepare_folder(out) / JOURNAL
    what = _seen_more(path, what)
    kept = _kept(engine, data, settings, what) | {"records": loop.listed(records)}
    with Journal(path, "discover", kept, remarks=remarks) as journal:
        loop.old_faults(journal.records(), strict=strict)
        faults = [*records.faults, *_old_faults(journal)]
        faults += _work(engine, records.samples, drawn, what, journal, strict=strict, told=told)
        seen = _observations(engine, journal, drawn)
        found = {
            text: select(mode.rule, seen, name=mode.name, k=settings.k)
            for text, mode in chosen.items()
        }
        means = {
            name: values.mean(axis=0) if name == head_statistics.ATTENTION else _mean(values)
            for name, values in seen.means(*sorted(what.columns)).items()
        }
        return Discovery(
            found=found,
            modes=chosen,
            heads=seen.heads,
            means=means,
            settings=kept,
            remarks=journal.remarks,
            in_data=len(records.samples),
            drawn=len(drawn.index),
            measured=sum(len(record[SAMPLES]) for record in journal.records()),
            faults=tuple(faults),
            resampled=drawn.resampled,
            statements=(*data.statements, *engine.model.statements),
        )


def _mean(values: Float64[np.ndarray, "draws heads"]) -> Float64[np.ndarray, " heads"]:
    """Mean over the draws in which a value is known."""
    known = ~np.isnan(values)
    total = np.where(known, values, 0.0).sum(axis=0)
    count = known.sum(axis=0)
    return np.asarray(np.divide(total, count, out=np.full(len(total), np.nan), where=count > 0))


def _modes(texts: Sequence[str], settings: Settings) -> dict[str, Mode]:
    if not texts:
        raise InputError("name at least one mode; try paper")
    defaults = {} if settings.per_sample is None else {"per_sample": str(settings.per_sample)}
    return {text: find_mode(text, **defaults) for text in dict.fromkeys(texts)}


def _look(modes: Mapping[str, Mode], settings: Settings, *, boxes: bool) -> Look:
    columns = needed(tuple(modes.values()))
    if head_statistics.INSIDE in columns and not boxes:
        raise InputError(
            "this mode needs true boxes, and the data set has none; choose a label-free mode "
            "(paper, contrastive, sensitivity), or data with boxes"
        )
    unknown = columns - set(KNOWN)
    if unknown:
        raise HeadsError(f"nobody measures {', '.join(sorted(unknown))}; known: {', '.join(KNOWN)}")
    # What costs nothing beside the pass itself is measured in any case: other modes may ask later.
    columns |= {head_statistics.ENTROPY}
    if boxes:
        columns |= {head_statistics.INSIDE}
        columns |= {head_statistics.IOU, head_statistics.HIT} if settings.singles else set()
    return Look(columns, settings.criteria, settings.neutral, settings.singles)


def _seen_more(path: Path, what: Look) -> Look:
    """What a journal that is there has measured, where that holds all that is wanted now."""
    there = header(path)
    columns = frozenset(there.get("columns", ())) if there else frozenset()
    if not columns.issuperset(what.columns) or not columns.issubset(KNOWN):
        return what
    return replace(what, columns=columns)


def _kept(engine: Engine, data: DataSet, settings: Settings, what: Look) -> dict[str, Any]:
    """All that the observations depend on."""
    return {
        **loop.asking(engine),
        "data": data.name,
        "data_revision": data.revision,
        "samples": settings.samples,
        "draws": settings.draws,
        "seed": settings.seed,
        "batch_size": engine.settings.batch_size,
        "criteria": asdict(settings.criteria),
        "columns": sorted(what.columns),
        "neutral": settings.neutral if what.contrasts else None,
        "singles": settings.singles,
        "region": engine.settings.region_name,
        "sigma": engine.settings.sigma,
        "kernel": engine.settings.kernel,
    }


def _old_faults(journal: Journal) -> list[Fault]:
    return [Fault(**fault) for record in journal.records() for fault in record[FAULTS]]


def _work(
    engine: Engine,
    samples: Sequence[Sample],
    drawn: Draws,
    what: Look,
    journal: Journal,
    *,
    strict: bool,
    told: loop.Told,
) -> list[Fault]:
    """Look at every batch that the journal does not hold yet; returns the new faults."""
    most = engine.settings.batch_size
    made = units(samples, drawn.index.tolist(), most=most, pairs=what.pairs)
    grouped = batches(made, most)
    sizes = [sum(unit.counted for unit in batch) for batch in grouped]
    total, done = sum(sizes), sum(sizes[: journal.done])
    told(done, total)
    faults: list[Fault] = []
    for number in range(journal.done, len(grouped)):
        record, wrong = look(engine, samples, grouped[number], what, done)
        loop.stop_if_strict(wrong, strict=strict)
        journal.append([record])
        faults += wrong
        done += sizes[number]
        told(done, total)
    return faults


def _observations(engine: Engine, journal: Journal, drawn: Draws) -> DrawnStatistics:
    """What the journal holds, read from it a batch at a time."""
    place = {int(index): row for row, index in enumerate(drawn.index)}

    def blocks() -> Iterator[Block]:
        for record in journal.records():
            if record[SAMPLES]:
                rows = [place[index] for index in record[SAMPLES]]
                columns = {name: unpack(packed) for name, packed in record[COLUMNS].items()}
                yield Block(columns, drawn.weights[rows])

    if next(blocks(), None) is None:
        first = next((f for record in journal.records() for f in record[FAULTS]), None)
        why = f"; the first fault: {first['error']}" if first else ""
        raise InputError(f"none of the drawn samples could be used{why}")
    return DrawnStatistics(engine.model.all_heads, drawn.weights.shape[1], blocks)
