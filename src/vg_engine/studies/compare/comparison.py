"""Two evaluations on what both scored: paired differences, `vg-engine eval --compare`.

Samples are joined by their id. Nothing is asked anew: both sides are read from their records.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from jaxtyping import Float64, Int64

from vg_engine.core.errors import InputError, nearest
from vg_engine.core.evaluation.intervals import mcnemar
from vg_engine.core.evaluation.outcomes import METRICS, Parts, difference
from vg_engine.studies.compare.disagreements import find_disagreements
from vg_engine.studies.compare.results import STATED, Comparison, Difference, Side
from vg_engine.studies.evaluate import columns
from vg_engine.studies.evaluate.entries import TableEntry, from_settings
from vg_engine.studies.evaluate.tables import OF_MIXED
from vg_engine.studies.shared import ranges
from vg_engine.studies.shared.journal import digest
from vg_engine.studies.shared.records import SavedRecords, open_records

_TESTED = ("acc@0.5", "pointing")  # right or wrong, sample by sample
_TRUTH = ("text", "picture", "size", "boxes", "masked", "area")


def compare(
    a: Path | str,
    b: Path | str,
    out: Path | str | None = None,
    *,
    entries: Sequence[str] = (),
    resamples: int = 2000,
    seed: int = 0,
    command: str = "",
) -> Comparison:
    """Compare two evaluations on what both scored.

    Args:
        a, b: folders that `evaluate` wrote, or files in them.
        out: folder of what `Comparison.save` writes; None writes no file.
        entries: names of the rows to compare; the first of each table by default. One name holds
            for both sides, two are A's and B's.
        resamples, seed: of the intervals.
        command: what was typed, for the foot of the report.

    Returns:
        The paired differences; `save(folder)` writes the numbers and the report.

    Raises:
        InputError: no evaluation, no such row, no sample in common, or another truth.
        OutputError: the folder cannot be written.

    Example:
        >>> import vg_engine
        >>> few = vg_engine.EvaluateSettings(limit=4, oracle=False, draws=2, resamples=50)
        >>> with vg_engine.load() as engine:
        ...     scored = vg_engine.evaluate(engine, "scenes?split=exam", "exam", settings=few)
        >>> found = vg_engine.compare("exam", "exam", entries=["embedded", "centre box"])
        >>> found.n
        4
    """
    ranges.check(resamples=resamples, seed=seed)
    if len(entries) > 2:
        raise InputError("--entry takes one name, or two: A's and B's")
    kept = open_records(Path(a)), open_records(Path(b))
    wanted = (*entries, *entries)[:2] if entries else (None, None)
    chosen = [_find(side, name) for side, name in zip(kept, wanted, strict=True)]
    if kept[0].path.resolve() == kept[1].path.resolve() and chosen[0] == chosen[1]:
        raise InputError(
            "both sides are the same row of the same evaluation; name two rows with --entry"
        )
    first, second = (_read(side, row) for side, row in zip(kept, chosen, strict=True))
    at_b = {name: number for number, name in enumerate(second.ids)}
    joined = [(i, at_b[name]) for i, name in enumerate(first.ids) if name in at_b]
    if not joined:
        raise InputError(
            f"{a} and {b} scored no sample in common ({kept[0].settings['data']}, "
            f"{kept[1].settings['data']}); compare two evaluations of one data set"
        )
    for i, j in joined:
        if first.truths[i] != second.truths[j]:
            raise InputError(
                f"sample {first.ids[i]} has another truth, sentence or picture in {b}; compare "
                "two evaluations of one data set"
            )
    at_a, at_b_ = np.array(joined, dtype=np.int64).T
    pictures = [first.pictures[i] for i in at_a.tolist()]
    sides = (
        Side(kept[0], first.row, len(first.ids) - len(joined)),
        Side(kept[1], second.row, len(second.ids) - len(joined)),
    )
    gains = first.fits[at_a] - second.fits[at_b_]
    ids = [first.ids[i] for i in at_a.tolist()]
    a_better, b_better = find_disagreements(kept, (first.row, second.row), ids, gains)
    found = Comparison(
        a=sides[0],
        b=sides[1],
        n=len(joined),
        pictures=len(set(pictures)),
        differences=tuple(
            _difference(one.name, first, second, (at_a, at_b_), pictures, resamples, seed)
            for one in METRICS
            if _both(first, second, one.name, (at_a, at_b_))
        ),
        a_better=a_better,
        b_better=b_better,
        notes=tuple(_notes(sides)),
        resamples=resamples,
        seed=seed,
    )
    if out is not None:
        found.save(out, command=command)
    return found


@dataclass(frozen=True, eq=False)
class _Column:
    """One side in numbers, a line per sample."""

    row: TableEntry
    ids: tuple[str, ...]
    pictures: tuple[str, ...]
    truths: tuple[str, ...]
    parts: Float64[np.ndarray, "samples metrics 2"]
    fits: Float64[np.ndarray, " samples"]
    mixed: bool


def _find(kept: SavedRecords, name: str | None) -> TableEntry:
    rows = from_settings(kept.settings)
    if name is None:
        return rows[0]
    names = [row.name for row in rows]
    if name not in names:
        raise InputError(f"{kept.path.parent} has no row {name!r}; {nearest(name, names)}")
    return rows[names.index(name)]


def _read(kept: SavedRecords, row: TableEntry) -> _Column:
    try:
        return _column(kept, row)
    except (KeyError, TypeError, AttributeError) as error:
        cause = f"{type(error).__name__}: {error}"
        raise InputError(
            f"{kept.path} holds a record that eval does not write ({cause}); run that evaluation "
            "again"
        ) from error


def _column(kept: SavedRecords, row: TableEntry) -> _Column:
    best, descriptions, _ = columns.first_pass(kept.records, [row])
    ids, pictures, truths, parts, fits = [], [], [], [], []
    mixed = False
    for record, worths in columns.answers(kept.records, [row], best):
        mixed = mixed or columns.is_mixed(record)
        ids.append(record["id"])
        pictures.append(record["picture"])
        truths.append(digest([record[key] for key in _TRUTH]))
        parts.append(columns.parts_of(worths[row.name]).mean(axis=0))
        fits.append(float(np.mean([columns.fit_of(one) for one in worths[row.name]])))
    if not ids:
        raise InputError(f"{kept.path} holds no sample that was scored; run that evaluation again")
    told = replace(row, description=descriptions.get(row.name, row.description))
    return _Column(
        told, tuple(ids), tuple(pictures), tuple(truths), np.stack(parts), np.array(fits), mixed
    )


def _both(a: _Column, b: _Column, name: str, joined: tuple[Int64[np.ndarray, " n"], ...]) -> bool:
    """Check whether both sides were measured by a metric, and it says something new."""
    if name in OF_MIXED and not a.mixed:
        return False
    place = [one.name for one in METRICS].index(name)
    sides = zip((a, b), joined, strict=True)
    return all(bool(side.parts[where, place, 1].any()) for side, where in sides)


def _difference(
    name: str,
    a: _Column,
    b: _Column,
    joined: tuple[Int64[np.ndarray, " n"], ...],
    pictures: Sequence[str],
    resamples: int,
    seed: int,
) -> Difference:
    place = [one.name for one in METRICS].index(name)
    one, other = (
        Parts(side.parts[where, place, 0], side.parts[where, place, 1])
        for side, where in zip((a, b), joined, strict=True)
    )
    how = {"resamples": resamples, "seed": seed}
    tested = name in _TESTED and not any(side.row.kind == "random" for side in (a, b))
    counted = (one.denominators > 0) & (other.denominators > 0)
    return Difference(
        name,
        one.estimate(pictures, **how),
        other.estimate(pictures, **how),
        difference(name, one, other, pictures, **how),
        mcnemar(one.numerators[counted] > 0, other.numerators[counted] > 0) if tested else None,
    )


def _notes(sides: tuple[Side, Side]) -> Iterator[str]:
    first, second = (side.kept.settings for side in sides)
    for name, side in zip("AB", sides, strict=True):
        if side.alone:
            count = "1 sample was" if side.alone == 1 else f"{side.alone:,} samples were"
            yield f"{count} scored by {name} alone and left out"
    for name, side in zip("AB", sides, strict=True):
        scored = sum(1 for _ in side.kept.records())
        planned = side.kept.settings["samples"] + side.kept.settings["faults"]
        if scored < planned:
            yield f"{name} is not finished: {scored:,} of {planned:,} records"
    if first["data_revision"] != second["data_revision"]:
        yield (
            "the data are of two revisions; on the samples that both scored, sentences and truths "
            "are the same"
        )
    prompts = [side.kept.settings["prompts"][side.entry.prompt] for side in sides]
    for key in prompts[0]:
        if prompts[0][key] != prompts[1].get(key):
            yield f"prompt {key}: A {prompts[0][key]!r}, B {prompts[1].get(key)!r}"
    for key in STATED:
        if first.get(key) != second.get(key):
            yield f"{key}: A {first.get(key)}, B {second.get(key)}"
