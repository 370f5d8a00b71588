"""`vg-engine discover`: the work."""

from __future__ import annotations

import datetime as dt
import json
import shlex
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vg_engine._load import load
from vg_engine.cli import console
from vg_engine.cli.naming import slug
from vg_engine.core.engine.engine import Engine
from vg_engine.core.errors import InputError, VGError
from vg_engine.core.evaluation.samples import DataSet
from vg_engine.core.selection.head_statistics import Criteria
from vg_engine.core.selection.ranking import Selection
from vg_engine.html import discovery as report
from vg_engine.measure import findings, loop
from vg_engine.measure.discovery import Discovery, Settings, discover
from vg_engine.plugins.datasets.names import open_data
from vg_engine.plugins.files import write_whole
from vg_engine.registry import catalog
from vg_engine.registry.schema import dump_head_set

TABLES, REPORT = "discovery.json", "report.html"
# What the embedded model is calibrated on; its exam's scenes are others.
SCENES = "scenes?split=calibration&n=1000"
_EXAMPLES = 6


@dataclass(frozen=True)
class Asked:
    """What the command line says, but for the model."""

    data: str | None
    modes: tuple[str, ...]
    out: Path
    name: str | None
    strict: bool
    as_json: bool
    settings: Mapping[str, Any]
    criteria: Mapping[str, Any]


def find(asked: Asked, choices: Mapping[str, Any]) -> None:
    """Find heads and write head set, tables and report.

    Raises:
        VGError: the user's mistake, or a disk that is full; what was done stays.
    """
    settings = Settings(**asked.settings, criteria=Criteria(**asked.criteria))
    if asked.name is not None and slug(asked.name) != asked.name:
        raise InputError(f"--name {asked.name!r}: use lower-case letters, digits and hyphens")
    data = open_data(_data(asked.data, choices["source"]))
    with console.notes() as notes, console.quiet_libraries():
        notes.tell(data.statements)
        with console.waiting("loading the model"):
            # Every head is looked at: which set the model has does not matter, its prompt does.
            engine = load(**choices, heads="auto")
        with engine:
            notes.tell(engine.model.statements)
            with console.working("looking") as told:
                found = discover(
                    engine,
                    data,
                    asked.out,
                    modes=asked.modes,
                    settings=settings,
                    strict=asked.strict,
                    remarks={"date": dt.datetime.now(dt.UTC).date().isoformat()},
                    told=told,
                )
            with console.waiting("writing the report"):
                _write(engine, data, found, asked, choices)
        _show(found, asked, choices["source"])


def _data(given: str | None, model: str | None) -> str:
    if given is not None:
        return given
    entry = catalog.find_model(model) if model is not None else None
    if model is None or (entry is not None and entry.name == catalog.EMBEDDED):
        return SCENES
    raise InputError(
        "which sentences? name a data set with --data, as 'refcoco:/data/refer?split=train' or "
        "jsonl:samples.jsonl"
    )


def _write(
    engine: Engine,
    data: DataSet,
    found: Discovery,
    asked: Asked,
    choices: Mapping[str, Any],
) -> None:
    name = _name(found, asked)
    chosen = findings.head_set(found, name, models=_models(found, choices))
    text = dump_head_set(chosen)
    write_whole(asked.out / f"{name}.yaml", text.encode())
    tables = json.dumps(findings.to_json(found), indent=1, ensure_ascii=False)
    write_whole(asked.out / TABLES, f"{tables}\n".encode())
    page = report.page(
        found,
        _examples(engine, data, found.chosen),
        correlations=findings.correlations(found, found.chosen),
        use=_use(asked, name, choices["source"]),
        command=shlex.join(["vg-engine", *sys.argv[1:]]),
    )
    write_whole(asked.out / REPORT, page.render().encode())


def _name(found: Discovery, asked: Asked) -> str:
    """The set's name: the user's, or model and mode; never one that ships."""
    if asked.name is not None:
        return asked.name
    model = str(found.settings["model"]).rpartition("/")[2]
    name = f"{slug(model) or 'model'}-{slug(found.mode.name)}"
    return f"{name}-found" if (catalog.OURS / "heads" / f"{name}.yaml").exists() else name


def _models(found: Discovery, choices: Mapping[str, Any]) -> tuple[str, ...]:
    """What the model is called: names by which the registry finds the set again."""
    source = choices["source"]
    entry = catalog.find_model(source) if source is not None else None
    ids = entry.ids if entry is not None else ()
    return tuple(dict.fromkeys((str(found.settings["model"]), *ids)))


def _examples(engine: Engine, data: DataSet, found: Selection) -> Sequence[report.Example]:
    """The first samples of different pictures, with what all heads see in them."""
    shown: dict[str, report.Example] = {}
    for sample in loop.read(data).samples:
        if len(shown) >= _EXAMPLES:
            break
        if sample.picture in shown:
            continue
        try:
            picture = loop.open_picture(engine, sample)
            maps = engine.maps(picture, sample.text)[0]
        except VGError:
            continue  # told among the faults
        answer = engine.read(maps, picture, found.heads)
        shown[sample.picture] = report.Example(sample, picture, maps, answer)
    return list(shown.values())


def _use(asked: Asked, name: str, model: str | None) -> str:
    """The command that makes the set the model's own."""
    words = ["vg-engine", "heads", "use", str(asked.out / f"{name}.yaml")]
    return shlex.join([*words, *(["--model", model] if model is not None else [])])


def _show(found: Discovery, asked: Asked, model: str | None) -> None:
    name = _name(found, asked)
    if asked.as_json:
        console.result(json.dumps(findings.to_json(found), ensure_ascii=False))
    else:
        chosen = found.chosen
        counted = len(chosen.frequency) > 0
        for rank, head in enumerate(chosen.heads):
            value = chosen.frequency[rank] if counted else chosen.scores[rank]
            spread = chosen.frequency_spread[rank] if counted else chosen.spread[rank]
            word = "frequency" if counted else "score"
            console.result(f"{head}  {word} {value:.3f} +- {spread:.3f}")
        console.result(f"{asked.out / f'{name}.yaml'}  {asked.out / REPORT}")
        use = _use(asked, name, model)
        console.say("note", f"use them from now on: {use}")
    for sentence in found.chosen.notes:
        console.say("note", sentence)
    if found.faults:
        count = len(found.faults)
        console.say(
            "note",
            f"{count} record{'s' if count > 1 else ''} could not be used, the first: "
            f"{found.faults[0].id}: {found.faults[0].error} (all counted in {asked.out / TABLES})",
        )
