"""The entries of the table: head sets, and beside each the controls that it has to beat."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from vg_engine import head_settings
from vg_engine.core.contract.prompt import Prompt
from vg_engine.core.engine.engine import Engine
from vg_engine.core.errors import InputError
from vg_engine.core.evaluation.samples import DataSet
from vg_engine.core.heads import Head, HeadSet
from vg_engine.core.selection.random_heads import random_heads
from vg_engine.registry import catalog

Kind = Literal["heads", "auto", "raw", "random", "mean", "single", "centre"]
CENTRE_SHARE = 0.5  # of each side of the picture
CENTRE, MEAN, SINGLE = "centre box", "mean of all heads", "best single head"
AUTO = "auto"
_CONTROLS = ("random", "mean", "single", "centre")
_NUMBERED = re.compile(r" \(\d+\)$")
_MANY_SHARED = 0.3  # of random heads in the set itself: worth a note
_NAMED = 4  # heads that a name lists


@dataclass(frozen=True)
class TableEntry:
    """One row of the table.

    Attributes:
        name: of the row, unique in its table.
        kind: `heads` = fixed ones; `auto` = chosen on each picture; `raw` = the first row's answer
            before the post-processors; the others are controls. `single` is the best head of
            all, chosen on the evaluated data itself: an oracle.
        heads: whose maps are combined (`heads`, `raw`, `mean`) or stand alone (`single`).
        draws: of `random`.
        prompt: index into the plan's prompts.
        description: what it is, in a few words.
    """

    name: str
    kind: Kind
    heads: tuple[Head, ...] = ()
    draws: tuple[tuple[Head, ...], ...] = ()
    prompt: int = 0
    description: str = ""

    @property
    def control(self) -> bool:
        """True for a control."""
        return self.kind in _CONTROLS

    @property
    def several(self) -> bool:
        """True where a sample has several answers: one per draw, or per head."""
        return self.kind in ("random", "single")


@dataclass(frozen=True)
class EntryPlan:
    """All rows, the one that is evaluated first, and what has to be read for them.

    Attributes:
        entries: the first is the main one.
        prompts: the distinct ones; each takes a forward pass of its own.
        heads: per prompt, what is captured.
        notes: what the reader of the table should know.
    """

    entries: tuple[TableEntry, ...]
    prompts: tuple[Prompt, ...]
    heads: tuple[tuple[Head, ...], ...]
    notes: tuple[str, ...] = ()

    @property
    def main(self) -> TableEntry:
        """The entry that is evaluated."""
        return self.entries[0]

    @property
    def raw(self) -> TableEntry | None:
        """The main one's answer before the post-processors, where there are any."""
        return next((c for c in self.entries if c.kind == "raw"), None)

    def of_prompt(self, index: int) -> tuple[TableEntry, ...]:
        """The rows that read maps of this prompt."""
        return tuple(c for c in self.entries if c.kind != "centre" and c.prompt == index)


def make_plan(
    engine: Engine,
    others: Sequence[HeadSet | None] = (),
    *,
    given: Mapping[str, str] | None = None,
    draws: int = 20,
    seed: int = 0,
    controls: bool = True,
    oracle: bool = True,
) -> EntryPlan:
    """Plan the entries that are measured beside the engine's own heads.

    Args:
        engine: its own head set (or `auto`) is the main entry.
        others: further head sets; None is `auto`. A set that states a prompt is asked with it.
        given: what the user says of the prompt; a set that was found with another is refused.
        draws, seed: of random heads.
        controls: random heads, the mean of all heads, the centre box.
        oracle: the best single head.

    Raises:
        HeadsError: a set does not fit the model or the prompt.
        InputError: a set is named twice.
    """
    prompts: list[Prompt] = [engine.settings.prompt]
    rows: list[TableEntry] = []
    alike: list[str] = []
    for number, heads in enumerate((engine.head_set, *others)):
        if number and heads is not None:
            _check_fits(engine, heads)
        prompt = engine.settings.prompt if not number else _prompt(engine, heads, given or {})
        if prompt not in prompts:
            prompts.append(prompt)
        taken = [CENTRE, MEAN, SINGLE, *_names(rows)]
        rows.append(_row(engine, heads, prompts.index(prompt), taken))
        same = [row for row in rows[:-1] if _same_heads(row, rows[-1])]
        if any(_name(row) == _name(rows[-1]) for row in same):
            raise InputError(f"--heads {_name(rows[-1])} is in the table already; name it once")
        alike += [f"{row.name} and {rows[-1].name} hold the same heads" for row in same]
        alike += _not_used(engine, heads)
    mains = tuple(rows)
    notes = [*_prompt_notes(prompts, mains), *alike]
    if engine.stamp()["postprocess"]:
        notes.append("the post-processors refine the answers of the first row alone")
        rows.append(_raw(mains[0], engine.stamp()["postprocess"]))
    if controls:
        for row in mains:
            drawn, more = _random(row, engine, draws=draws, seed=seed)
            notes += more
            rows += [drawn] if drawn is not None and drawn.name not in _names(rows) else []
        pools = [_pool(engine, mains, index) for index in range(len(prompts))]
        rows += [_mean(pool, index) for index, pool in enumerate(pools)]
        if oracle:
            rows += [_single(pool, index) for index, pool in enumerate(pools)]
        rows.append(_centre())
    return EntryPlan(
        tuple(rows),
        tuple(prompts),
        tuple(_captured(engine, rows, index) for index in range(len(prompts))),
        tuple(dict.fromkeys(notes)),
    )


def named(text: str) -> HeadSet | None:
    """Read `--heads`: a head set by name or file, a list of heads, or (None) `auto`.

    Raises:
        HeadSetNotFoundError, HeadsError: it is none of these.
        InputError: the file cannot be read.
    """
    return None if text == AUTO else catalog.find_heads(text)


def found_here(sets: Iterable[HeadSet | None], data: DataSet) -> Iterator[str]:
    """Name the head sets found on the very data that is scored: their scores are too good."""
    for heads in sets:
        if heads is not None and heads.provenance.get("data_revision") == data.revision:
            yield (
                f"{heads.name} was found on these very samples: its score is too good; "
                "score it on others"
            )


def as_settings(plan: EntryPlan) -> dict[str, Any]:
    """Write the plan as settings of the journal: all that records depend on."""
    return {
        "prompts": [
            {"form": p.form, "template": p.template, "query_row": p.query_row, "system": p.system}
            | ({} if p.ending is None else {"ending": p.ending})
            for p in plan.prompts
        ],
        "entries": {
            c.name: {
                "kind": c.kind,
                "prompt": c.prompt,
                "description": c.description,
                "heads": ",".join(map(str, c.heads)),
                "draws": [",".join(map(str, draw)) for draw in c.draws],
            }
            for c in plan.entries
        },
    }


def from_settings(settings: Mapping[str, Any]) -> tuple[TableEntry, ...]:
    """The entries that a journal's settings tell of."""
    return tuple(
        TableEntry(
            name,
            c["kind"],
            _heads(c["heads"]),
            tuple(map(_heads, c["draws"])),
            c["prompt"],
            c["description"],
        )
        for name, c in settings["entries"].items()
    )


def _heads(text: str) -> tuple[Head, ...]:
    return tuple(map(Head.parse, text.split(","))) if text else ()


def _not_used(engine: Engine, heads: HeadSet | None) -> Sequence[str]:
    """Say which region and options a set was found with that its row is not read with."""
    stamp = engine.stamp()
    how = {"region": stamp["region"], "options": stamp.get("options", {})}
    return head_settings.notes_for(heads, None, adapter=stamp["adapter"], **how)


def _check_fits(engine: Engine, heads: HeadSet) -> None:
    heads.check_fits(**engine.model.shape)


def _prompt(engine: Engine, heads: HeadSet | None, given: Mapping[str, str]) -> Prompt:
    """The prompt that a further set is asked with: the one that it was found with, if it says."""
    if heads is None or not heads.provenance.get("prompt"):
        return engine.settings.prompt
    return head_settings.of_heads(heads, given, {})


def _row(engine: Engine, heads: HeadSet | None, prompt: int, taken: Sequence[str]) -> TableEntry:
    if heads is None:
        k = engine.settings.k
        return TableEntry(
            _free("auto", taken),
            "auto",
            prompt=prompt,
            description=f"{_count(k)}, chosen on each picture",
        )
    name = heads.name if heads.rule != "given" else _listed(heads.heads)
    description = f"{_count(len(heads.heads))} of {_layers(heads.heads)}"
    if heads.rule != "given":
        description += f", chosen by {heads.rule}"
    return TableEntry(
        _free(name, taken), "heads", heads.heads, prompt=prompt, description=description
    )


def _same_heads(one: TableEntry, other: TableEntry) -> bool:
    return (one.kind, one.heads, one.prompt) == (other.kind, other.heads, other.prompt)


def _name(row: TableEntry) -> str:
    """The name of a row's head set, without the number that `_free` put behind it."""
    return _NUMBERED.sub("", row.name)


def _raw(main: TableEntry, postprocess: Sequence[str]) -> TableEntry:
    return TableEntry(
        f"{main.name}, not refined",
        "raw",
        main.heads,
        description=f"before {', '.join(postprocess)}",
    )


def _pool(engine: Engine, rows: Sequence[TableEntry], prompt: int) -> tuple[Head, ...]:
    """The candidates, and all heads of the layers that a set of this prompt names."""
    layers = {head.layer for row in rows if row.prompt == prompt for head in row.heads}
    layers |= {head.layer for head in engine.model.candidate_heads}
    return tuple(head for head in engine.model.all_heads if head.layer in layers)


def _random(
    row: TableEntry, engine: Engine, *, draws: int, seed: int
) -> tuple[TableEntry | None, list[str]]:
    """As many random heads of the same layers; each draw once, and never the set itself."""
    layers = {head.layer for head in row.heads or engine.model.candidate_heads}
    pool = tuple(head for head in engine.model.all_heads if head.layer in layers)
    size = min(len(row.heads) or engine.settings.k, len(pool))
    where = _layers(pool)
    found = random_heads(pool, size, draws=draws, seed=seed, without=row.heads)
    if not found:
        return None, [
            f"{row.name} holds all {len(pool)} heads of {where}: there are no others to draw"
        ]
    notes = []
    if len(found) < draws:
        notes.append(f"only {len(found)} draws of {size} heads of {where} differ from {row.name}")
    shared = size / len(pool)
    if row.heads and shared > _MANY_SHARED:
        notes.append(
            f"{row.name} holds {size} of the {len(pool)} heads of {where}: of the random heads "
            f"{100 * shared:.0f} % are its own, so their score is no low bar"
        )
    name = f"random: {_count(size)} of {where}"
    description = f"mean of {len(found)} draws, seed {seed}"
    return TableEntry(_with(name, row.prompt), "random", (), found, row.prompt, description), notes


def _mean(deep: tuple[Head, ...], prompt: int) -> TableEntry:
    description = f"{_count(len(deep))} of {_layers(deep)}"
    return TableEntry(_with(MEAN, prompt), "mean", deep, prompt=prompt, description=description)


def _single(deep: tuple[Head, ...], prompt: int) -> TableEntry:
    description = "oracle: chosen on these very samples"
    return TableEntry(_with(SINGLE, prompt), "single", deep, prompt=prompt, description=description)


def _centre() -> TableEntry:
    description = f"{100 * CENTRE_SHARE:.0f} % of each side, in the middle of every picture"
    return TableEntry(CENTRE, "centre", description=description)


def _captured(engine: Engine, rows: Sequence[TableEntry], prompt: int) -> tuple[Head, ...]:
    """All heads whose maps these rows need, by layer, then head."""
    wanted: set[Head] = set()
    for row in rows:
        if row.prompt != prompt or row.kind == "centre":
            continue
        wanted.update(row.heads, *row.draws)
        if row.kind in ("auto", "raw") and not row.heads:
            wanted.update(engine.model.candidate_heads)
    return tuple(sorted(wanted))


def _prompt_notes(prompts: Sequence[Prompt], rows: Sequence[TableEntry]) -> Iterable[str]:
    if len(prompts) > 1:
        for index, prompt in enumerate(prompts):
            asked = ", ".join(row.name for row in rows if row.prompt == index)
            yield (
                f"prompt {index + 1} ({prompt.form}, {prompt.template!r}, {prompt.query_row}): "
                f"{asked}"
            )


def _names(rows: Iterable[TableEntry]) -> set[str]:
    return {row.name for row in rows}


def _free(name: str, taken: Sequence[str]) -> str:
    """The name, with a number behind it if another row has it."""
    number, free = 1, name
    while free in taken:
        number += 1
        free = f"{name} ({number})"
    return free


def _with(name: str, prompt: int) -> str:
    return f"{name} (prompt {prompt + 1})" if prompt else name


def _listed(heads: Sequence[Head]) -> str:
    names = ",".join(map(str, heads[:_NAMED]))
    return names if len(heads) <= _NAMED else f"{names},... ({len(heads)})"


def _count(heads: int) -> str:
    return "1 head" if heads == 1 else f"{heads} heads"


def _layers(heads: Iterable[Head]) -> str:
    """`layer 3`, `layers 2 to 5`, `layers 2, 4, 7`, `9 layers`."""
    layers = sorted({head.layer for head in heads})
    if len(layers) == 1:
        return f"layer {layers[0]}"
    if layers == list(range(layers[0], layers[-1] + 1)):
        return f"layers {layers[0]} to {layers[-1]}"
    if len(layers) <= _NAMED:
        return f"layers {', '.join(map(str, layers))}"
    return f"{len(layers)} layers"
