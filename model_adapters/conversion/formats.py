"""Which formats can be converted, and which of them a config belongs to."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from typing import Any

from vg_engine.core.errors import InputError, PluginError
from vg_engine.model_adapters.conversion.protocol import Converter

# "module:Class" inside this package, in the order in which they are listed to users.
FORMATS: tuple[str, ...] = (
    "llava_original:LlavaOriginal",
    "internvl_chat:InternVLChat",
    "yi_vl:YiVL",
    "mini_gemini:MiniGemini",
    "pickled:Pickled",
)


def converters() -> tuple[Converter, ...]:
    """One converter of each format."""
    found: list[Converter] = []
    for entry in FORMATS:
        module, _, name = entry.partition(":")
        found.append(getattr(import_module(f"{__package__}.{module}"), name)())
    return tuple(found)


def converter_for(config: Mapping[str, Any], *, name: str) -> Converter:
    """The one converter that claims a config.

    Args:
        config: the source's config.json.
        name: of the source, for messages.

    Raises:
        InputError: nobody claims it; the formats that exist are named.
        PluginError: several claim it.
    """
    known = converters()
    claiming = [converter for converter in known if converter.claims(config)]
    if len(claiming) > 1:
        names = ", ".join(converter.name for converter in claiming)
        raise PluginError(f"several converters claim {name}: {names}; their claims must differ")
    if claiming:
        return claiming[0]
    said = f"model_type {config.get('model_type')!r}, architectures {config.get('architectures')}"
    listed = "; ".join(f"{converter.name} ({converter.summary})" for converter in known)
    raise InputError(f"{name} ({said}) is of no format that is known here; known: {listed}")
