"""The adapter for a model: the one that the model type in its config names.

The installed adapters are arguments (see `vg_engine.plugins.entrypoints`), because the packages
registry and plugins do not import each other. No adapter is imported unless several claim one model
type.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol, TypeVar, runtime_checkable

from vg_engine.core.errors import (
    AdapterNotFoundError,
    PluginError,
    UnsupportedModelError,
    nearest,
)

OURS = Path(__file__).parent


@runtime_checkable
class Offer(Protocol):
    """An entry point, as its distribution's metadata states it."""

    @property
    def name(self) -> str:
        """The adapter's name, or the model type that it is for."""

    @property
    def value(self) -> str:
        """`module:attribute`."""

    @property
    def package(self) -> str:
        """Distribution and version."""

    def load(self) -> Any:
        """Import it; a broken one raises `PluginError`."""


AnyOffer = TypeVar("AnyOffer", bound=Offer)


def adapter_names(adapters: Iterable[Offer]) -> tuple[str, ...]:
    """List the names that `--adapter` takes."""
    return tuple(sorted({offer.name for offer in adapters}))


def model_types(adapter: Offer, types: Iterable[Offer]) -> tuple[str, ...]:
    """List the model types that an adapter is for."""
    return tuple(sorted({offer.name for offer in types if offer.value == adapter.value}))


def adapter_for(config: Mapping[str, Any], types: Sequence[AnyOffer]) -> AnyOffer:
    """Find the adapter that a model's config asks for.

    An entry named `TYPE+TOWER` is for models of that type with a vision tower of type TOWER
    (`llava+pixtral`), and goes before one named `TYPE`. Where several are installed for one name,
    each is imported and asked `claims(config)`.

    Args:
        config: the model's config.json.
        types: the entries of `vg_engine.model_types`.

    Raises:
        AdapterNotFoundError: none is installed for this model type (the nearest are named), or
            none of several claims this config.
        PluginError: several claim it; all are named.
    """
    model_type = str(config.get("model_type") or "")
    if not model_type:
        raise AdapterNotFoundError(
            "the model's config.json names no model_type; choose an adapter with --adapter "
            f"({', '.join(adapter_names(types)) or 'none is installed'})"
        )
    tower = config.get("vision_config")
    kind = f"{model_type}+{tower.get('model_type')}" if isinstance(tower, Mapping) else model_type
    offers = _named(kind, types) or _named(model_type, types)
    if not offers:
        refuse(config)
        raise AdapterNotFoundError(
            f"no adapter for models of type {model_type!r} (choose one with --adapter, or install "
            "the package that brings one; vg-engine adapters lists what is here); "
            f"{nearest(model_type, adapter_names(types))}; --adapter auto takes image-text-to-text "
            "models of transformers with an image_token_id and one square grid of tokens"
        )
    if len(offers) == 1:
        return offers[0]
    return _claimed(model_type, config, offers)


def check_type(name: str, adapter: Any, config: Mapping[str, Any], label: str) -> None:
    """Refuse an adapter for models of other types, before anything is built.

    Args:
        name, adapter: the chosen one, its types in `model_types`.
        config: the model's config.json.
        label: the model, as the user knows it.

    Raises:
        UnsupportedModelError: the model is of another type, and the adapter does not claim it.
        PluginError: the adapter fails when it is asked.
    """
    types, kind = getattr(adapter, "model_types", ()), config.get("model_type")
    if not types or kind is None or kind in types:
        return
    if not _takes(adapter, config, f"adapter {name!r}", unasked=False):
        raise UnsupportedModelError(
            f"adapter {name!r} takes models of type {' or '.join(types)}, and {label} is of type "
            f"{kind}; name a model of its own with --model, or leave --adapter out"
        )


def _named(kind: str, types: Sequence[AnyOffer]) -> list[AnyOffer]:
    """List the offers of that name; an adapter that is registered twice counts once."""
    return list({offer.value: offer for offer in types if offer.name == kind}.values())


def refuse(config: Mapping[str, Any]) -> None:
    """Refuse a family whose image tokens form no grid, and say why.

    Raises:
        UnsupportedModelError: `refused.yaml` knows the config's model type.
    """
    model_type = str(config.get("model_type") or "")
    why = refused().get(model_type)
    if why:
        raise UnsupportedModelError(f"models of type {model_type!r} cannot be grounded: {why}")


def refused() -> dict[str, str]:
    """Read the refused model types, each with the reason in one sentence."""
    from vg_engine.registry import yaml_files  # noqa: PLC0415 - for refused types alone

    known: dict[str, str] = yaml_files.load(OURS / "refused.yaml")
    return known


def _claimed(model_type: str, config: Mapping[str, Any], offers: Sequence[AnyOffer]) -> AnyOffer:
    claiming: list[AnyOffer] = []
    broken: list[PluginError] = []
    for offer in offers:
        try:
            if _takes(offer.load(), config, f"{offer.package} ({offer.value})", unasked=True):
                claiming.append(offer)
        except PluginError as error:
            broken.append(error)
    if len(claiming) == 1:
        return claiming[0]
    if claiming:
        sides = " and ".join(f"{offer.package} ({offer.value})" for offer in claiming)
        raise PluginError(
            f"models of type {model_type!r} are claimed by {sides}; choose one with --adapter"
        )
    if broken:
        raise broken[0]
    sides = ", ".join(f"{offer.package} ({offer.value})" for offer in offers)
    raise AdapterNotFoundError(
        f"a model of type {model_type!r}, but none of {sides} takes this one; "
        "choose one with --adapter"
    )


def _takes(adapter: Any, config: Mapping[str, Any], whose: str, *, unasked: bool) -> bool:
    """Ask an adapter whether it takes a model; the answer is `unasked` if it has no `claims`."""
    if not hasattr(adapter, "claims"):
        return unasked
    try:
        return bool(adapter.claims(config))
    except Exception as error:  # whatever a stranger's code raises
        cause = f"{type(error).__name__}: {' '.join(str(error).split())}"
        raise PluginError(f"{whose} cannot tell its models: {cause}") from error
