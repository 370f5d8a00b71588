"""The settings that a head set brings: its prompt, its region and its adapter's options.

Heads answer to the prompt that they were found with. A set that states one brings it whole: it is
never mixed with another, and a model that cannot be asked so is refused as it is loaded. Region and
options are the set's as well, unless the user states others.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from vg_engine.core.contract.hooks import Hooks
from vg_engine.core.contract.inputs import Expression
from vg_engine.core.contract.model import LoadedModel
from vg_engine.core.contract.picture import Picture
from vg_engine.core.contract.prompt import Prompt
from vg_engine.core.contract.scene import Scene
from vg_engine.core.engine.engine import Engine
from vg_engine.core.errors import HeadsError, VGError
from vg_engine.core.heads import Head, HeadSet, parse_heads
from vg_engine.core.readout.regions import Region
from vg_engine.plugins.instances import made_region
from vg_engine.registry import catalog
from vg_engine.registry.schema import ModelEntry, PromptFields, check

AUTO = "auto"
DEFAULT_REGION = "edge_level"  # works on coarse grids, where the paper's boxes are far too large

Given = Prompt | str | Mapping[str, str] | None

_BLANK = 224  # pixels of the sides of a picture to try a prompt with
_LISTED = 8  # heads of a set that a message spells out


def fields_of(prompt: Given) -> Mapping[str, Any]:
    """The fields that the user gives: of a `Prompt` all, of its form that one."""
    if isinstance(prompt, Prompt):
        return asdict(prompt)
    return {"form": prompt} if isinstance(prompt, str) else prompt or {}


def of_fields(given: Given, fields: Mapping[str, Any]) -> Prompt:
    """Make a prompt of the user's fields, with `fields` for those that the user leaves out.

    Raises:
        InputError: a prompt has no such field, or the field no such value.
    """
    changes = fields_of(given)
    check("prompt", PromptFields, dict(changes))
    return Prompt(**{**fields, **changes})


def of_heads(chosen: HeadSet, given: Given, fields: Mapping[str, Any]) -> Prompt:
    """The prompt that a head set states; where it states none, as `of_fields`.

    Raises:
        HeadsError: the user gives another than the set was found with.
    """
    stated = _stated(chosen)
    if not stated:
        return of_fields(given, fields)
    asked, found_with = of_fields(given, stated), of_fields(None, stated)
    differing = [
        f"{name} {getattr(found_with, name)!r}, not {getattr(asked, name)!r}"
        for name in Prompt.__dataclass_fields__
        if getattr(asked, name) != getattr(found_with, name)
    ]
    if differing:
        raise HeadsError(
            f"head set {chosen.name!r} was found with prompt {'; '.join(differing)}; leave the "
            f"prompt to the set, or list its heads, which carry no prompt: {_option(chosen)}"
        )
    return asked


def varied(
    engine: Engine, changes: Mapping[str, Any], *, entry: ModelEntry | None
) -> dict[str, Any]:
    """Look up what the changes of `Engine.variant` name; other heads bring prompt and region.

    Raises:
        InputError: there is no such setting.
        VGError: heads, region or prompt cannot be found or combined.
    """
    asked, now, chosen = dict(changes), engine.settings, engine.head_set
    prompt = asked.pop("prompt", None)
    if "heads" in asked:
        chosen = asked["heads"] = found_heads(asked["heads"])
        if chosen is not None and _stated(chosen):
            prompt = of_heads(chosen, prompt, {})
    if prompt is not None:
        whole = isinstance(prompt, Prompt)
        asked["prompt"] = prompt if whole else of_fields(prompt, asdict(now.prompt))
    if "region" in asked or ("heads" in asked and _stated_region(chosen)):
        name, asked["region"] = region_for(asked.get("region"), chosen, entry)
        asked.setdefault("region_name", name)
    stamp = engine.stamp()
    used = {"adapter": stamp["adapter"], "options": stamp["options"]}
    region = asked.get("region_name", now.region_name)
    return asked | {"notes": notes_for(chosen, entry, region=region, **used)}


def found_heads(given: str | Path | HeadSet | Sequence[Head | str] | None) -> HeadSet | None:
    """Find the heads that the user names; None for `auto`, which selects them on each picture.

    Raises:
        VGError: no such set, or something else than heads.
    """
    if given is None or given == AUTO:
        return None
    if isinstance(given, HeadSet):
        return given
    if isinstance(given, str | Path):
        return catalog.find_heads(str(given))
    return HeadSet("given", parse_heads(given), "given")


def check_asks(hooks: Hooks, model: LoadedModel, chosen: HeadSet, prompt: Prompt) -> None:
    """Find out now, not at the first picture, whether the model can be asked as its heads need it.

    Only the adapter knows: it prepares a blank picture, and nothing is run. A complaint counts if
    the plain prompt raises none; else it is about something else, and comes when it matters.

    Raises:
        HeadsError: the prompt that the head set states cannot be written for this model.
    """
    if not _stated(chosen):
        return
    complaint = _complaint(hooks, model, prompt)
    if isinstance(complaint, VGError) and _complaint(hooks, model, Prompt()) is None:
        raise HeadsError(
            f"head set {chosen.name!r} does not fit: it was found with the {prompt.form} prompt, "
            f"and this model cannot be asked so ({complaint}); choose heads with --heads auto, or "
            f"list its heads, which carry no prompt: {_option(chosen)}"
        ) from complaint


def options_of(chosen: object, adapter: str) -> Mapping[str, Any]:
    """The options of the adapter that the heads were found with; none for another adapter."""
    if not isinstance(chosen, HeadSet) or chosen.provenance.get("adapter") not in (None, adapter):
        return {}
    stated = chosen.provenance.get("options")
    return stated if isinstance(stated, Mapping) else {}


def region_for(
    given: str | Region | None, chosen: HeadSet | None, entry: ModelEntry | None
) -> tuple[str, Region]:
    """Choose the region: the user's, the head set's, the model entry's, or the default.

    A set's region that is not installed here is passed over; `notes_for` says so.

    Returns:
        Its name, with its parameters, and the function that reads it.
    """
    if given is None and (stated := _stated_region(chosen)):
        with contextlib.suppress(VGError):
            return made_region(stated)
    return made_region(given or (entry.region if entry else None) or DEFAULT_REGION)


def _stated_region(chosen: HeadSet | None) -> str | None:
    stated = chosen.provenance.get("region") if chosen is not None else None
    return stated if isinstance(stated, str) else None


def notes_for(
    chosen: HeadSet | None,
    entry: ModelEntry | None,
    *,
    adapter: str,
    region: str,
    options: Mapping[str, Any],
) -> tuple[str, ...]:
    """Collect an engine's notes: the model entry's, and which settings of its heads it lacks."""
    stated = {"region": _stated_region(chosen) or region, **options_of(chosen, adapter)}
    used = {"region": region, **options}
    lacking = [
        f"head set {chosen.name!r} was found with {key} {value}, not {used.get(key, 'the default')}"
        for key, value in stated.items()
        if chosen is not None and used.get(key) != value
    ]
    return (*(entry.notes if entry else ()), *lacking)


def _complaint(hooks: Hooks, model: LoadedModel, prompt: Prompt) -> Exception | None:
    """Prepare a blank picture with that prompt; return the adapter's complaint, if any."""
    blank = Picture(np.full((_BLANK, _BLANK, 3), 127, np.uint8))
    try:
        hooks.prepare_inputs(model, [Scene(blank)], [Expression(0, "it")], prompt)
    except Exception as error:  # noqa: BLE001 - whatever a stranger's adapter raises
        return error
    return None


def _stated(chosen: HeadSet) -> dict[str, str]:
    stated = chosen.provenance.get("prompt")
    return dict(stated) if isinstance(stated, Mapping) else {}


def _option(chosen: HeadSet) -> str:
    """The option that lists the heads of a set."""
    if len(chosen.heads) <= _LISTED:
        return f"--heads {','.join(map(str, chosen.heads))}"
    first = ",".join(map(str, chosen.heads[:2]))
    return f"--heads {first},... (vg-engine heads show {chosen.name} has them all)"
