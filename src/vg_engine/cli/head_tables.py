"""Head sets for people and for programs: one with its provenance, several side by side."""

from __future__ import annotations

import json
import sys
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

from vg_engine.cli import console, tables
from vg_engine.cli.lists import show_rows
from vg_engine.core.contract.prompt import Prompt
from vg_engine.core.heads import Agreement, Head, HeadSet, agreement
from vg_engine.registry import catalog

_KEY = 18  # the width of the keys of a sheet
_MOST = 40  # heads that a comparison shows people; programs get all
_DIGITS = 4
# Defaults, which a set need not state.
_PROMPT = {key: value for key, value in asdict(Prompt()).items() if value is not None}
_TOLD_APART = ("controls", "notes", "prompt", "index_base")


def summary(entry: HeadSet) -> dict[str, Any]:
    """Describe a head set, for the list of them."""
    return {
        "name": entry.name,
        "heads": [str(head) for head in entry.heads],
        "rule": entry.rule,
        "models": list(entry.model),
        "layers": entry.layers,
        "heads_per_layer": entry.heads_per_layer,
    }


def whole(entry: HeadSet) -> dict[str, Any]:
    """All that a head set states, as JSON takes it."""
    columns = {key: list(getattr(entry, key)) for key in ("frequency", "spread", "score")}
    return summary(entry) | columns | dict(entry.provenance)


def sheet(entry: HeadSet, *, default_of: Sequence[str], file: Path) -> Iterator[str]:
    """A head set for people, line by line.

    Args:
        entry: the set.
        default_of: models whose default it is.
        file: where it lies.
    """
    shape = f"{entry.layers or '?'} layers x {entry.heads_per_layer or '?'} heads"
    yield from _field("name", entry.name)
    yield from _field("file", str(file))
    yield from _field("models", ", ".join(entry.model))
    yield from _field("default of", ", ".join(default_of))
    yield from _field("shape", shape if entry.layers or entry.heads_per_layer else "")
    yield from _field("rule", entry.rule)
    per_head = {
        str(head): dict(zip(entry.columns, values, strict=True))
        for head, *values in zip(entry.heads, *entry.columns.values(), strict=True)
    }
    yield from _field("heads", per_head if entry.columns else ", ".join(map(str, entry.heads)))
    last = ("controls", "notes")
    stated = entry.provenance
    for key in [*(k for k in stated if k not in last), *(k for k in last if k in stated)]:
        yield from _field(key, stated[key])


def _field(key: str, value: object) -> Iterator[str]:
    """Lay out one field of a head set: its value beside the key, or below it on a narrow screen."""
    key, width = f"{key.replace('_', ' ')}:", tables.screen_width()
    told = _lines(value, sys.maxsize)
    if max(map(len, told), default=0) > width - _KEY - 1:
        yield key
        yield from (f"  {line}" for line in _lines(value, width - 2))
        return
    for place, line in enumerate(told):
        if line:
            yield f"{'' if place else key:<{_KEY}} {line}".rstrip()


def _lines(value: object, width: int) -> list[str]:
    """A value as lines: a mapping as a table, whose own mappings are its rows."""
    if not isinstance(value, Mapping):
        parts = value if isinstance(value, list) else [value]
        return [line for part in parts for line in textwrap.wrap(_words(part), width)]
    inner = {key: part for key, part in value.items() if isinstance(part, Mapping)}
    wide = max(map(len, value), default=0)
    told = [
        line
        for key, part in value.items()
        if key not in inner
        for line in textwrap.wrap(f"{key:<{wide}}  {_words(part)}", width)
    ]
    columns = list(dict.fromkeys(key for part in inner.values() for key in part))
    cells = [_aligned([part.get(column) for part in inner.values()]) for column in columns]
    rows = [
        tables.Row(name.ljust(wide), line)
        for name, line in zip(inner, zip(*cells, strict=True), strict=True)
    ]
    if rows:
        told += [line.plain.rstrip() for line in tables.lines(["", *columns], rows, width)]
    return told


def _aligned(values: Sequence[object]) -> list[str]:
    """A column's values as words: numbers with as many decimals as the longest of them."""
    words = list(map(_words, values))
    numbers = [isinstance(value, float) and "e" not in _words(value) for value in values]
    decimals = max(
        (len(word.partition(".")[2]) for word, known in zip(words, numbers, strict=True) if known),
        default=0,
    )
    return [
        f"{value:.{decimals}f}" if known else word
        for value, word, known in zip(values, words, numbers, strict=True)
    ]


def _words(value: object) -> str:
    """A value in a cell."""
    if isinstance(value, float):
        return f"{value:.{_DIGITS}g}"
    if isinstance(value, Mapping | list):
        return json.dumps(value, ensure_ascii=False)
    return "" if value is None else " ".join(str(value).split())


@dataclass(frozen=True)
class HeadComparison:
    """Several head sets side by side.

    Attributes:
        sets: by what the user called them.
        pairs: how alike each two are, by the two names.
        same: whether all are for the same model, prompt and data; None where one does not say.
        differences: what they state differently, in the order of `sets`; None = not stated.
        notes: what the user should know.
    """

    sets: Mapping[str, HeadSet]
    pairs: Mapping[tuple[str, str], Agreement]
    same: Mapping[str, bool | None]
    differences: Mapping[str, Sequence[Any]]
    notes: tuple[str, ...]

    def ranks(self) -> dict[Head, list[int | None]]:
        """The place of every head in each set, from 1; those in most sets first."""
        places = [
            {head: rank for rank, head in enumerate(entry.heads, start=1)}
            for entry in self.sets.values()
        ]
        found = {head: [place.get(head) for place in places] for one in places for head in one}

        def order(head: Head) -> tuple[int, int, Head]:
            held = [rank for rank in found[head] if rank is not None]
            return -len(held), sum(held), head

        return {head: found[head] for head in sorted(found, key=order)}

    def record(self) -> dict[str, Any]:
        """All of it, as JSON takes it."""
        return {
            "sets": [summary(entry) | {"name": name} for name, entry in self.sets.items()],
            "pairs": [
                {
                    "first": first,
                    "second": second,
                    "shared": [str(head) for head in found.shared],
                    "jaccard": found.jaccard,
                    "kendall": found.kendall,
                }
                for (first, second), found in self.pairs.items()
            ],
            "heads": [{"head": str(head), "ranks": ranks} for head, ranks in self.ranks().items()],
            "same": dict(self.same),
            "differences": {key: list(values) for key, values in self.differences.items()},
            "notes": list(self.notes),
        }

    def show(self) -> None:
        """All of it on stdout, for people."""
        pairs = [
            {
                "first": first,
                "second": second,
                "shared": f"{len(found.shared)} of {len(self.sets[first].heads)} "
                f"and {len(self.sets[second].heads)}",
                "overlap (Jaccard)": f"{found.jaccard:.3f}",
                "order (Kendall)": "" if found.kendall is None else f"{found.kendall:+.3f}",
            }
            for (first, second), found in self.pairs.items()
        ]
        show_rows(pairs, tuple(pairs[0]), as_json=False)
        shared = {
            head: ranks
            for head, ranks in self.ranks().items()
            if len(ranks) - ranks.count(None) > 1
        }
        console.result("")
        if not shared:
            console.result("no head is shared")
        else:
            rows: list[dict[str, Any]] = [
                {"shared head": str(head)}
                | {f"rank in {name}": rank for name, rank in zip(self.sets, ranks, strict=True)}
                for head, ranks in shared.items()
            ]
            show_rows(rows[:_MOST], tuple(rows[0]), as_json=False)
            if len(rows) > _MOST:
                console.result(f"and {len(rows) - _MOST} more (--json has them all)")
        words = {True: "the same", False: "different", None: "not stated by all"}
        console.result("")
        console.result("  ".join(f"{key}: {words[found]}" for key, found in self.same.items()))
        if self.differences:
            console.result("")
            rows = [
                {"stated": key.replace("_", " ")}
                | {name: _words(value) for name, value in zip(self.sets, values, strict=True)}
                for key, values in self.differences.items()
            ]
            show_rows(rows, tuple(rows[0]), as_json=False)


def compare(given: Sequence[tuple[str, HeadSet]]) -> HeadComparison:
    """Compare head sets.

    Args:
        given: what the user wrote, and the set that it means; two or more.
    """
    names: list[str] = []
    for text, entry in given:
        name = entry.name if entry.name not in names else text
        while name in names:
            name += "'"
        names.append(name)
    sets = {name: entry for name, (_, entry) in zip(names, given, strict=True)}
    stated = [_stated(entry) for entry in sets.values()]
    keys = dict.fromkeys(key for one in stated for key in one)
    columns = {key: [one.get(key) for one in stated] for key in keys}
    shapes = {name: (entry.layers, entry.heads_per_layer) for name, entry in sets.items()}
    notes = []
    if len({shape for shape in shapes.values() if all(shape)}) > 1:
        told = ", ".join(f"{n} {s[0]} x {s[1]}" for n, s in shapes.items() if all(s))
        notes.append(
            f"the sets are for models of different shapes ({told}): heads of the same name are "
            "not the same heads"
        )
    return HeadComparison(
        sets,
        {(a, b): agreement(sets[a].heads, sets[b].heads) for a, b in combinations(sets, 2)},
        {
            "model": _alike([_models(entry) for entry in sets.values()]),
            "prompt": _alike([_prompt(entry) for entry in sets.values()]),
            "data": _alike([_data(entry) for entry in sets.values()]),
        },
        {
            key: values
            for key, values in columns.items()
            if any(value != values[0] for value in values)
        },
        tuple(notes),
    )


def _stated(entry: HeadSet) -> dict[str, Any]:
    """Collect the settings that may differ between sets, one value per key."""
    return {
        "models": ", ".join(entry.model) or None,
        "layers": entry.layers or None,
        "heads_per_layer": entry.heads_per_layer or None,
        "rule": entry.rule,
        **{f"prompt {key}": value for key, value in (_prompt(entry) or {}).items()},
        **{key: value for key, value in entry.provenance.items() if key not in _TOLD_APART},
    }


def _models(entry: HeadSet) -> set[str] | None:
    return {catalog.model_key(name).lower() for name in entry.model} or None


def _prompt(entry: HeadSet) -> dict[str, Any] | None:
    stated = entry.provenance.get("prompt")
    return {**_PROMPT, **stated} if isinstance(stated, Mapping) else None


def _data(entry: HeadSet) -> tuple[object, ...] | None:
    stated = tuple(entry.provenance.get(key) for key in ("data", "data_revision", "split"))
    return stated if stated[0] is not None else None


def _alike(values: Sequence[Any]) -> bool | None:
    """Check whether values are equal, or sets overlap; None where one is not stated."""
    if any(value is None for value in values):
        return None
    if all(isinstance(value, set) for value in values):
        return bool(set.intersection(*values))
    return all(value == values[0] for value in values)
