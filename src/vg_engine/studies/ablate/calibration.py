"""The heads that an ablation compares, all ranked on one data set: its calibration.

One pass looks at the drawn sentences with all heads; every rule and every number of votes is ranked
from what that pass wrote down. Two tables cannot share it, another query row and another way of
taking the entropy: each of their rows takes a pass of its own, so they are made when asked for.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from vg_engine.core.contract.prompt import QUERY_ROWS, Prompt
from vg_engine.core.engine.engine import Engine
from vg_engine.core.errors import HeadsError, InputError, PluginError
from vg_engine.core.evaluation.draws import draw
from vg_engine.core.evaluation.samples import DataSet, Sample
from vg_engine.core.selection import head_statistics
from vg_engine.core.selection.head_statistics import Criteria
from vg_engine.core.selection.ranking import Selection
from vg_engine.plugins import entrypoints
from vg_engine.studies.discover.discovery import DiscoverSettings, rank_heads
from vg_engine.studies.discover.results import Discovery
from vg_engine.studies.discover.rules import NamedRule, find_rule
from vg_engine.studies.shared.resumable import Progress, SampleList

PAPER, IMAGE_ALONE, ENTROPY_ALONE = "paper", "attention_only", "entropy_only"
VOTES = tuple(range(1, 15))
# Ways of taking the entropy beside the paper's (cut 1, areas, 8-connected).
ENTROPIES: Mapping[str, Criteria] = {
    "cut 1.5 x mean": Criteria(cut=1.5),
    "cut 2 x mean": Criteria(cut=2.0),
    "weighted by mass": Criteria(weighting="mass"),
    "4-connected": Criteria(connectivity=4),
}
_BOXED = frozenset({head_statistics.INSIDE, head_statistics.IOU, head_statistics.HIT})
_PAIRED = frozenset({head_statistics.SENSITIVITY, head_statistics.AGREEMENT})

ShowPass = Callable[[str], AbstractContextManager[Progress]]


@dataclass(frozen=True, eq=False)
class Calibration:
    """Heads by every way of choosing them.

    Attributes:
        data: what they were chosen on.
        drawn: samples that were drawn from it.
        discovery: the pass that all rules share; its first rule is the default.
        rules: those of table `criteria`, as texts.
        votes: N -> the rule that counts the N lowest entropies of each sentence.
        entropies: way of taking the entropy -> what it chose; table `entropy`.
        rows: query row -> the prompt that reads it, and what was chosen with it; `query_row`.
        notes: what was left out, and why.
    """

    data: DataSet
    drawn: tuple[Sample, ...]
    discovery: Discovery
    rules: tuple[str, ...]
    votes: Mapping[int, str]
    entropies: Mapping[str, Selection]
    rows: Mapping[str, tuple[Prompt, Selection]]
    notes: tuple[str, ...]


def calibrate(
    engine: Engine,
    found: SampleList,
    folder: Path,
    *,
    rule: str,
    tables: Sequence[str],
    settings: DiscoverSettings,
    strict: bool,
    remarks: Mapping[str, Any] | None,
    show_pass: ShowPass,
) -> Calibration:
    """Rank the heads in every way that the tables need.

    Args:
        engine: asks with its own prompt.
        found: sentences; rules that need boxes or pairs are left out where there are none.
        folder: of the journals; a run that was stopped goes on there.
        rule: of the default row.
        tables: names of the tables to be made.
        settings: how heads are looked for.
        strict: the first fault stops everything.
        remarks: kept in the journals when they are begun (the date).
        show_pass: shows the progress of each pass.

    Raises:
        InputError: the rule cannot be used with this data, or a journal is of other work.
        HeadsError: what was observed tells the rule nothing.
        OutputError: a journal cannot be written; what was done stays.
    """
    chosen = find_rule(rule)
    why = _missing(chosen, found.samples)
    if why:
        raise InputError(f"rule {rule}: {why}; choose another --rule or other --calibration data")
    notes: list[str] = []
    others = list(_installed(rule, found.samples, notes)) if "criteria" in tables else []
    votes = _votes(chosen) if "per_sample" in tables else {}
    if "per_sample" in tables and not votes:
        notes.append(f"table per_sample left out: rule {rule} counts no votes of sentences")

    def look(
        rules: Sequence[str], own: str = "", asked: Engine = engine, **changes: Any
    ) -> Discovery:
        with show_pass(f"calibrating, {own}" if own else "calibrating") as progress:
            return rank_heads(
                asked,
                found,
                folder / own.replace(" ", "-"),
                rules=rules,
                settings=replace(settings, **changes),
                strict=strict,
                remarks=remarks,
                progress=progress,
            )

    discovery, others = _ranked(look, rule, others, list(votes.values()), notes)
    entropies = {
        name: look([rule], name, criteria=criteria, per_head=0).chosen
        for name, criteria in (ENTROPIES.items() if "entropy" in tables else ())
    }
    rows: dict[str, tuple[Prompt, Selection]] = {}
    for row in QUERY_ROWS[:-1] if "query_row" in tables else ():
        prompt = replace(engine.settings.prompt, query_row=row)
        if prompt == engine.settings.prompt:
            rows[row] = prompt, discovery.chosen
        else:
            asked = engine.variant(prompt=prompt)
            rows[row] = prompt, look([rule], row, asked, per_head=0).chosen
    return Calibration(
        data=found.data,
        drawn=_drawn(found.samples, settings),
        discovery=discovery,
        rules=tuple(others),
        votes=votes,
        entropies=entropies,
        rows=rows,
        notes=tuple(notes),
    )


def labelled(rule: NamedRule) -> bool:
    """Tell a rule that looks at true boxes from one that does not."""
    return not _BOXED.isdisjoint(rule.rule.needs)


def _drawn(samples: Sequence[Sample], settings: DiscoverSettings) -> tuple[Sample, ...]:
    names = [sample.picture for sample in samples]
    drawn = draw(names, size=settings.samples, draws=settings.draws, seed=settings.seed)
    return tuple(samples[place] for place in drawn.index.tolist())


def _missing(rule: NamedRule, samples: Sequence[Sample]) -> str:
    """Say what a rule needs and the data lacks; empty if nothing."""
    needs = frozenset(rule.rule.needs)
    unknown = needs - set(head_statistics.COLUMNS)
    if unknown:
        return f"no statistic is called {', '.join(sorted(unknown))}"
    if needs & _BOXED and not any(s.boxes is not None and len(s.boxes) for s in samples):
        return "it needs true boxes, and the calibration data has none"
    if needs & _PAIRED and not _has_pairs(samples):
        return "it compares sentences about one picture, and the calibration data has no such pairs"
    return ""


def _has_pairs(samples: Sequence[Sample]) -> bool:
    """Check whether two expressions about one picture mean different things."""
    first: dict[str, Sample] = {}
    return any(
        not first.setdefault(sample.picture, sample).same_target(sample) for sample in samples
    )


def _installed(chosen: str, samples: Sequence[Sample], notes: list[str]) -> Iterator[str]:
    """The rules that stand beside the default: the paper's parts first, labelled ones last."""
    known = {entry.name for entry in entrypoints.installed(entrypoints.RULES)}
    last = []
    parts = [IMAGE_ALONE, ENTROPY_ALONE, PAPER]
    for name in [*(part for part in parts if part in known), *sorted(known - set(parts))]:
        if name == chosen:
            continue
        try:
            rule = find_rule(name)
        except PluginError as error:
            notes.append(f"rule {name} left out: {error}")
            continue
        why = _missing(rule, samples)
        if why:
            notes.append(f"rule {name} left out: {why}")
        elif labelled(rule):
            last.append(name)
        else:
            yield name
    yield from last


def _votes(rule: NamedRule) -> dict[int, str]:
    """The rule again for every number of votes; none, if it counts none."""
    if not hasattr(rule.rule, "per_sample"):
        return {}
    stated = {key: value for key, value in rule.options.items() if key != "per_sample"}
    texts = {}
    for number in VOTES:
        more = {**stated, "per_sample": number}
        texts[number] = f"{rule.name}:{','.join(f'{k}={v}' for k, v in more.items())}"
    return texts


def _ranked(
    look: Callable[[Sequence[str]], Discovery],
    rule: str,
    others: list[str],
    votes: Sequence[str],
    notes: list[str],
) -> tuple[Discovery, list[str]]:
    """Rank by all rules, but for others that can tell nothing from what was seen."""
    try:
        return look([rule, *others, *votes]), others
    except HeadsError:
        if not others:
            raise
    # The pass is done and written down: who is to blame can be asked one by one.
    good = []
    for name in others:
        try:
            look([rule, name])
        except HeadsError as error:
            notes.append(f"rule {name} left out: {error}")
        else:
            good.append(name)
    return look([rule, *good, *votes]), good
