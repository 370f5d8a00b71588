"""Choice of the converter for a checkpoint."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from vg_engine.core.errors import InputError, PluginError
from vg_engine.model_adapters.conversion.protocol import Converter


def converter_for(config: Mapping[str, Any], known: Sequence[Converter], *, name: str) -> Converter:
    """Find the one converter that claims a config.

    Args:
        config: the source's config.json.
        known: the installed converters.
        name: name of the source, for messages.

    Raises:
        InputError: no converter claims it; the message lists the formats.
        PluginError: several claim it.
    """
    claiming = [converter for converter in known if converter.claims(config)]
    claiming = [converter for converter in claiming if not converter.gives_way] or claiming
    if len(claiming) > 1:
        names = ", ".join(converter.name for converter in claiming)
        raise PluginError(f"several converters claim {name}: {names}; their claims must differ")
    if claiming:
        return claiming[0]
    described = (
        f"model_type {config.get('model_type')!r}, architectures {config.get('architectures')}"
    )
    listed = "; ".join(f"{converter.name} ({converter.summary})" for converter in known)
    raise InputError(f"{name} ({described}) is in no format that is known here; known: {listed}")
