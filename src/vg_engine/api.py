"""Compose an engine: registry, plugins and adapters meet here, at the front door."""

from __future__ import annotations

import functools
import inspect
import logging
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import torch

from vg_engine import head_settings, model_source
from vg_engine._version import __version__
from vg_engine.core.contract.hooks import Hooks
from vg_engine.core.contract.model import LoadedModel, ModelSpec
from vg_engine.core.contract.picture import Picture
from vg_engine.core.contract.prompt import Prompt
from vg_engine.core.contract.results import Grounding
from vg_engine.core.engine.engine import Engine, Settings
from vg_engine.core.errors import (
    AdapterNotFoundError,
    ModelError,
)
from vg_engine.core.heads import Head, HeadSet, parse_heads
from vg_engine.core.readout.regions import Region
from vg_engine.engine_spec import MAX_PIXELS, EngineSpec
from vg_engine.plugins import entrypoints
from vg_engine.plugins.instances import made_plugin, made_region, named_plugin
from vg_engine.plugins.manager import make_editor, make_hooks
from vg_engine.plugins.pictures import Decoder, decode
from vg_engine.registry import adapters, catalog

_LOG = logging.getLogger("vg_engine")


def load(
    source: str | Path | EngineSpec | None = None,
    *,
    adapter: str | object | None = None,
    heads: str | Path | HeadSet | Sequence[Head | str] | None = None,
    region: str | Region | None = None,
    prompt: Prompt | str | Mapping[str, str] | None = None,
    device: str | int | torch.device = "auto",
    dtype: str | torch.dtype = "auto",
    revision: str | None = None,
    trust_remote_code: bool = False,
    postprocessors: Sequence[str | object] = (),
    options: Mapping[str, Any] | None = None,
    model: Any = None,
    processor: Any = None,
    batch_size: int = 8,
    max_tokens: int | None = None,
    max_pixels: int = MAX_PIXELS,
) -> Engine:
    """Make an engine.

    Args:
        source: folder, hub id, or a name that the registry knows; None takes the embedded model.
            Arguments beside an `EngineSpec` win over its fields; those left at their defaults
            leave them as they are.
        adapter: name of an installed adapter, or one of your own; None asks the model's config.
        heads: `auto` (selected on each picture), the name of a head set, its YAML file,
            `L14H24,L14H13`, a `HeadSet` or heads. None takes the set that was made for this model,
            else `auto`.
        region: `paper`, `otsu`, `mean_std`, ... (`mean_std:c=1.5` sets a parameter), or a function
            from a map to a region. None takes the head set's, else the model entry's, else
            `edge_level`.
        prompt: a `Prompt`, its form (`bare`, `chat`), or some of its fields; the rest comes from
            the model's entry. A head set that states the prompt that it was found with brings
            that one, whole, and another is refused; heads that are listed carry none.
        device: `auto` takes CUDA, then MPS, then the CPU.
        dtype: `auto` takes the checkpoint's on an accelerator, float32 on the CPU.
        revision: of a hub id.
        trust_remote_code: lets a repository bring code of its own.
        postprocessors: names of installed plugins, options behind them (`name:key=value`), or
            objects with `vg_postprocess`, in order.
        options: switches of the adapter; they win over those of the head set.
        model: a model that is already in memory; it is left as it was found on `close`.
        processor: the one that belongs to `model`.
        batch_size: queries per forward pass.
        max_tokens: tokens per forward pass; None sets no limit.
        max_pixels: larger pictures are refused.

    Returns:
        An engine, which is a context manager.

    Raises:
        VGError: whatever cannot be found, loaded or combined; the message says what to do.

    Example:
        >>> with load(EngineSpec(region="otsu"), heads="L4H4,L3H1") as engine:
        ...     engine.settings.region_name, len(engine.head_set.heads)
        ('otsu', 2)
    """
    if isinstance(postprocessors, str) or not isinstance(postprocessors, Sequence):
        postprocessors = (postprocessors,)
    described = EngineSpec.of(source)
    spec = EngineSpec(
        adapter=adapter if isinstance(adapter, str) else None,
        heads=_text_of_heads(heads),
        region=region if isinstance(region, str) else None,
        prompt=head_settings.fields_of(prompt),
        device=f"cuda:{device}" if isinstance(device, int) else str(device),
        dtype=str(dtype).removeprefix("torch."),
        revision=revision,
        trust_remote_code=trust_remote_code,
        options=options or {},
        batch_size=batch_size,
        max_tokens=max_tokens,
        max_pixels=max_pixels,
    )
    spec = described.changed_by(spec)
    return _load(
        spec,
        adapter=adapter or spec.adapter,
        heads=heads if isinstance(heads, HeadSet) else spec.heads,
        region=region or spec.region,
        postprocessors=tuple(postprocessors) or spec.postprocessors,
        model=model,
        processor=processor,
    )


def _text_of_heads(heads: str | Path | HeadSet | Sequence[Head | str] | None) -> str | None:
    """The heads as a spec holds them; None for a head set, which stands beside the spec."""
    if heads is None or isinstance(heads, HeadSet):
        return None
    if isinstance(heads, str | Path):
        return str(heads)
    return ",".join(map(str, parse_heads(heads)))


def _load(
    spec: EngineSpec,
    *,
    adapter: str | object | None,
    heads: str | HeadSet | None,
    region: str | Region | None,
    postprocessors: Sequence[str | object],
    model: Any,
    processor: Any,
) -> Engine:
    """Make the engine that a spec, and the objects beside it, describe."""
    found = model_source.resolve(spec.model, model, processor, spec.revision, read=adapter is None)
    entry = found.entry
    name, made = _adapter(adapter, found)
    chosen = _heads(heads, found)
    fields = entry.prompt.stated() if entry else {}
    if isinstance(chosen, HeadSet):
        head_settings.of_heads(chosen, spec.prompt, fields)  # refused before anything is loaded
    if region is not None:
        made_region(region)  # refused before anything is loaded
    options = {
        **_stated_options(found, name),
        **head_settings.options_of(chosen, name),
        **spec.options,
    }
    hooks = make_hooks(
        name, made, [named_plugin(one, entrypoints.PLUGINS) for one in postprocessors]
    )
    with ExitStack() as undo:  # a load that fails leaves nothing open
        undo.callback(hooks.close)
        with model_source.nearest_named(found):
            loaded = hooks.load_model(
                ModelSpec(
                    **found.place(spec.revision),
                    device=spec.device,
                    dtype=spec.dtype,
                    trust_remote_code=spec.trust_remote_code,
                    module=model,
                    processor=processor,
                    options=options,
                )
            )
        undo.callback(loaded.close)
        if callable(chosen):
            chosen = chosen(loaded)
        if chosen is not None:
            chosen.check_fits(**loaded.shape)
            asked = head_settings.of_heads(chosen, spec.prompt, fields)
            head_settings.check_asks(hooks, loaded, chosen, asked)
        else:
            asked = head_settings.of_fields(spec.prompt, fields)
        region_name, read = head_settings.region_for(region, chosen, entry)
        engine = Engine(
            hooks,
            loaded,
            Settings(
                region=read,
                region_name=region_name,
                prompt=asked,
                batch_size=spec.batch_size,
                max_tokens=spec.max_tokens,
            ),
            head_set=chosen,
            decode=Decoder(spec.max_pixels),
            origin={
                "tool": f"vg-engine {__version__}",
                "entry": entry.name if entry else None,
                "options": options,
            },
            notes=head_settings.notes_for(
                chosen, entry, adapter=name, region=region_name, options=options
            ),
            vary=functools.partial(head_settings.varied, entry=entry),
        )
        undo.pop_all()
        return engine


def edit(grounding: Grounding, picture: Any, editor: str | object) -> Picture:
    """Make a new picture of what was found: removed, blurred, cut out, whatever the editor does.

    Args:
        grounding: an answer about the picture.
        picture: as in `Engine.ground`.
        editor: name of an installed editor, options behind it (`name:key=value`), or an object
            with `vg_edit`.

    Returns:
        A picture of the same size; the same one where nothing was found.

    Raises:
        VGError: an editor that is not there or answers wrongly, or another picture.

    Example:
        >>> class Black:
        ...     def vg_edit(self, grounding, picture):
        ...         return Picture(picture.pixels * ~grounding.mask[..., None])
        >>> with load() as engine:
        ...     answer = engine.ground("examples/scene.png", "the red circle")
        >>> edit(answer, "examples/scene.png", Black()).size == answer.size
        True
    """
    name, made = named_plugin(editor, entrypoints.EDITORS)
    shown = decode(picture)
    shown.check_size(grounding.size, "edit")
    hook = make_editor(name, made)
    return hook.edit(grounding, shown) if grounding.found else shown


def open_model(
    source: str | None,
    *,
    adapter: str | None = None,
    options: Mapping[str, Any],
    revision: str | None = None,
    **spec: Any,
) -> tuple[str, Any, Hooks, LoadedModel]:
    """A model with its adapter and nothing around them, for whoever checks adapters.

    Args:
        source: as in `load`.
        adapter: name of an installed one; None asks the model's config.
        options: switches of the adapter.
        revision: of a hub id.
        spec: further fields of `ModelSpec`.

    Returns:
        The adapter's name, the adapter, its hooks and the loaded model.
    """
    found = model_source.resolve(source, None, None, revision, read=adapter is None)
    name, made = _adapter(adapter, found)
    stated = _stated_options(found, name)
    hooks = make_hooks(name, made, [])
    with model_source.nearest_named(found):
        model = hooks.load_model(
            ModelSpec(options={**stated, **options}, **found.place(revision), **spec)
        )
    return name, made, hooks, model


def _stated_options(found: model_source.Source, adapter: str) -> Mapping[str, Any]:
    """An entry's switches are its own adapter's; another may not know them."""
    entry = found.entry
    theirs = entry is not None and entry.adapter in (None, adapter)
    return entry.options if entry is not None and theirs else {}


def _adapter(given: object | None, found: model_source.Source) -> tuple[str, object]:
    """The adapter's name and an instance of it."""
    named = given or (found.entry.adapter if found.entry else None)
    if named is None:
        types = entrypoints.installed(entrypoints.MODEL_TYPES)
        try:
            claimed = adapters.adapter_for(found.config, types)
        except AdapterNotFoundError as error:
            raise _original(found) or error from None
        known = entrypoints.installed(entrypoints.ADAPTERS)
        offer = next((entry for entry in known if entry.value == claimed.value), claimed)
        return offer.name, made_plugin(offer.name, claimed.load())
    if named == head_settings.AUTO:
        # By name it takes anything; what is known to have no grid is refused first.
        adapters.refuse(found.config)
    if isinstance(named, str):
        plugin = entrypoints.find(entrypoints.ADAPTERS, named).load()
        adapters.check_type(named, plugin, found.config, found.label)
        return named, made_plugin(named, plugin)
    name = named.__name__ if inspect.isclass(named) else type(named).__name__
    adapters.check_type(name, named, found.config, found.label)
    return name, made_plugin(name, named)


def _original(found: model_source.Source) -> ModelError | None:
    """Make the error for a checkpoint in its authors' own format; None for any other."""
    for entry in entrypoints.installed(entrypoints.CONVERTERS):
        try:
            claimed = entry.load()().claims(found.config)
        except Exception:  # noqa: BLE001, S112 - a broken converter is convert's to tell
            continue
        if claimed:
            return ModelError(
                f"{found.label} is an original checkpoint ({entry.name}), as its authors published "
                f"it; make a folder to load of it: vg-engine convert {found.label} NEW_FOLDER"
            )
    return None


def _heads(
    given: str | HeadSet | None, found: model_source.Source
) -> HeadSet | Callable[[LoadedModel], HeadSet | None] | None:
    """Fixed heads, None for `auto`, or the question to put once the model's shape is known."""
    if given is None:
        if found.entry and found.entry.heads:
            return catalog.for_entry(found.entry)
        return catalog.default_of(found.label) or functools.partial(_heads_of, found)
    return head_settings.found_heads(given)


def _heads_of(found: model_source.Source, model: LoadedModel) -> HeadSet | None:
    chosen = catalog.for_model(
        found.label, layers=model.layers, heads_per_layer=model.heads, names=found.names
    )
    if chosen is None:
        _LOG.warning(
            "no head set is known for %s: heads are selected on each picture (auto); "
            "vg-engine discover finds better, fixed ones",
            found.label,
        )
    return chosen
