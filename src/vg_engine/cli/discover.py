"""`vg-engine discover`: its options, and what it says. The work is in `vg_engine.studies`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import vg_engine
from vg_engine.cli import console, options
from vg_engine.cli.options import option
from vg_engine.cli.studies import CALIBRATION, data_name, provenance, tell_faults
from vg_engine.engine_spec import EngineSpec
from vg_engine.plugins import entrypoints

if TYPE_CHECKING:
    from vg_engine.studies.discover.results import Discovery

_WHAT, _WHICH, _HOW = "What to look at", "How heads are chosen", options.HOW


@options.with_engine()
def discover(
    *,
    data: Annotated[
        str | None,
        option(
            "DATA",
            "READER:PATH?options, as refcoco:/data/refer?split=train; drawn scenes without "
            "it, for the embedded model.",
            _WHAT,
        ),
    ] = None,
    samples: Annotated[int, option("N", "Sentences per draw.", _WHAT, min=1)] = 1000,
    draws: Annotated[int, option("N", "Random draws.", _WHAT, min=1)] = 5,
    seed: Annotated[int, option("N", "Of the draws.", _WHAT, min=0)] = 0,
    rule: Annotated[
        list[str] | None,
        option(
            "RULE",
            "paper, supervised, contrastive, sensitivity, consensus, paper+sensitivity, ...; "
            "paper:per_sample=5 sets an option. Repeats: the first chooses the heads, the others "
            "stand beside it in the report.",
            _WHICH,
        ),
    ] = None,
    k: Annotated[int, option("K", "Heads to fix.", _WHICH, "--k", min=1)] = 3,
    per_sample: Annotated[
        int | None,
        option(
            "N", "Heads of lowest entropy that a sentence votes for; 10 without it.", _WHICH, min=1
        ),
    ] = None,
    cut: Annotated[
        float, option("C", "For the entropy a cell counts above C times its map's mean.", _WHICH)
    ] = 1.0,
    connectivity: Annotated[int, option("4|8", "Of the entropy's parts.", _WHICH)] = 8,
    weighting: Annotated[
        str, option("KIND", "The entropy weighs parts by area or by mass.", _WHICH)
    ] = "area",
    neutral: Annotated[
        str, option("TEXT", "The neutral prompt of rule contrastive.", _WHICH)
    ] = "describe the image",
    per_head: Annotated[
        int,
        option(
            "N",
            "Sentences on which each head's own box is measured, where boxes are known.",
            _WHICH,
            min=0,
        ),
    ] = 200,
    spec: EngineSpec,
    out: Annotated[
        Path | None,
        options.out_folder(
            "Folder of head set, tables, report and journal; out/discover without it. A "
            "stopped run goes on there."
        ),
    ] = None,
    name: Annotated[
        str | None, option("NAME", "Of the head set; MODEL-RULE without it.", options.OUT)
    ] = None,
    strict: options.Strict = False,
    as_json: options.Json = False,
    _config: options.Config = None,
) -> None:
    """Find a model's localization heads.

    Writes a head set (use it with vg-engine heads use FILE), discovery.json and report.html.
    Without options it looks at the embedded model. It can be stopped at any moment; the same
    command goes on where it stopped.

    [dim]vg-engine discover --model checkpoints/llava-1.5-7b-hf --data
    'refcoco:/data/refer?split=train' --out found[/dim]
    """
    options.check_names(entrypoints.RULES, rule or ())
    settings = vg_engine.DiscoverSettings(
        samples=samples,
        draws=draws,
        seed=seed,
        k=k,
        per_sample=per_sample,
        criteria=vg_engine.Criteria(cut=cut, connectivity=connectivity, weighting=weighting),
        neutral=neutral,
        per_head=per_head,
        name=name,
    )
    example = "refcoco:/data/refer?split=train"
    looked_at = vg_engine.open_data(data_name(data, spec.model, CALIBRATION, example))
    folder = out or Path("out/discover")
    with console.notes() as notes, console.quiet_libraries():
        notes.tell(looked_at.statements)
        with console.spinner("loading the model"):
            # Every head is looked at: which set the model has does not matter, its prompt does.
            engine = vg_engine.load(spec, heads="auto")
        with engine:
            notes.tell(engine.model.statements)
            with console.study_progress("looking") as progress:
                found = vg_engine.discover(
                    engine,
                    looked_at,
                    folder,
                    rules=rule or ("paper",),
                    settings=settings,
                    model=spec.model,
                    strict=strict,
                    progress=progress,
                    **provenance(),
                )
        _show(found, folder, settings.name, spec.model, as_json=as_json)


def _show(
    found: Discovery, folder: Path, name: str | None, model: str | None, *, as_json: bool
) -> None:
    numbers, report = folder / "discovery.json", folder / "report.html"
    if as_json:
        console.record(found.to_json())
    else:
        chosen = found.chosen
        word, values, spread = "score", chosen.scores, chosen.spread
        if len(chosen.frequency):
            word, values, spread = "frequency", chosen.frequency, chosen.frequency_spread
        for head, value, one in zip(chosen.heads, values, spread, strict=False):
            console.result(f"{head}  {word} {value:.3f} +- {one:.3f}")
        path = folder / f"{name or found.default_name}.yaml"
        console.result(f"{path}  {report}")
        console.say("note", f"use them from now on: {found.use_command(path, model)}")
    for sentence in found.chosen.notes:
        console.say("note", sentence)
    tell_faults(found.faults, len(found.faults), f" (all counted in {numbers})")
