"""`vg-engine ablate`: its options. The work is in `vg_engine.studies`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import vg_engine
from vg_engine.cli import console, options
from vg_engine.cli.options import option
from vg_engine.cli.studies import CALIBRATION, FRESH, is_embedded, provenance, tell_faults
from vg_engine.core.errors import InputError
from vg_engine.engine_spec import EngineSpec

_WHAT, _HEADS = "What is looked at", "What is varied"


@options.with_engine()
def ablate(
    *,
    calibration: Annotated[
        str | None,
        option(
            "DATA",
            "Heads are chosen on it: READER:PATH?options, as refcoco:/data/refer?split=train; "
            "drawn scenes without it, for the embedded model.",
            _WHAT,
        ),
    ] = None,
    data: Annotated[
        str | None,
        option("DATA", "What they are scored on, other pictures with true boxes or masks.", _WHAT),
    ] = None,
    limit: Annotated[
        int | None, option("N", "Score only the first N samples.", _WHAT, min=1)
    ] = None,
    samples: Annotated[int, option("N", "Calibration sentences per draw.", _WHAT, min=1)] = 1000,
    draws: Annotated[int, option("N", "Draws of them.", _WHAT, min=1)] = 5,
    seed: Annotated[int, option("N", "Of draws, random heads and intervals.", _WHAT, min=0)] = 0,
    rule: Annotated[
        str,
        option("RULE", "The rule of the default row; all others stand in table criteria.", _HEADS),
    ] = "paper",
    tables: Annotated[
        str | None,
        option(
            "NAMES",
            "Some of k,criteria,sigma,kernel,per_sample,region,spearman, which are made "
            "without it; entropy and query_row look at the calibration data anew for each row.",
            _HEADS,
        ),
    ] = None,
    resamples: Annotated[int, option("N", "Of the intervals.", _HEADS, min=1)] = 2000,
    spec: EngineSpec,
    out: Annotated[
        Path | None,
        options.out_folder(
            "Folder of ablation.json, report.html and journals; out/ablate without it. A "
            "stopped run goes on there."
        ),
    ] = None,
    strict: options.Strict = False,
    as_json: options.Json = False,
    _config: options.Config = None,
) -> None:
    """Vary the choices of the method one by one.

    How many heads, by which rule, how smoothed, read as which region: each row of each table
    changes one thing, and says how far it is from the default row. Heads are chosen on one data
    set and scored on another. It can be stopped at any moment; the same command goes on.

    [dim]vg-engine ablate --model checkpoints/llava-1.5-7b-hf --calibration
    'refcoco:/data/refer?split=train' --data 'refcoco:/data/refer?split=val' --out ablations[/dim]
    """
    settings = vg_engine.AblateSettings(
        samples=samples, draws=draws, seed=seed, resamples=resamples, limit=limit, **_named(tables)
    )
    if not is_embedded(spec.model) and (calibration is None or data is None):
        raise InputError(
            "which sentences? heads are chosen on --calibration and scored on --data, as "
            "--calibration 'refcoco:/data/refer?split=train' --data 'refcoco:/data/refer?split=val'"
        )
    chosen_on = vg_engine.open_data(CALIBRATION if calibration is None else calibration)
    scored = vg_engine.open_data(FRESH if data is None else data)
    folder = out or Path("out/ablate")
    with console.notes() as notes, console.quiet_libraries():
        notes.tell([*chosen_on.statements, *scored.statements])
        with console.spinner("loading the model"):
            # Every head is looked at: which set the model has does not matter, its prompt does.
            engine = vg_engine.load(spec, heads="auto")
        with engine:
            notes.tell(engine.model.statements)
            found = vg_engine.ablate(
                engine,
                chosen_on,
                scored,
                folder,
                rule=rule,
                settings=settings,
                strict=strict,
                show_pass=console.study_progress,
                **provenance(),
            )
        for sentence in found.warnings:
            console.say("warning", sentence)
        notes.tell(found.notes)
    if as_json:
        console.record(found.to_json())
    else:
        from vg_engine.cli import variant_tables  # noqa: PLC0415 - numpy, for the tables alone

        variant_tables.tell(found, folder)
    tell_faults(found.faults, found.fault_count, f" (counted in {folder / 'ablation.json'})")


def _named(tables: str | None) -> dict[str, Any]:
    """The tables of a list, each once; nothing where none was named."""
    if tables is None:
        return {}
    return {"tables": tuple(dict.fromkeys(filter(None, map(str.strip, tables.split(",")))))}
