"""The description of an engine as plain data: written down, sent to a worker, read back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

from vg_engine.core.contract.frozen import Rebuilt, empty
from vg_engine.core.errors import InputError, nearest

MAX_PIXELS = 64_000_000


@dataclass(frozen=True)
class EngineSpec(Rebuilt):
    """An engine, described by plain data; `vg_engine.load(spec)` makes it.

    Two specs are equal if all their fields are. A spec can be pickled, and `to_dict` makes it JSON.

    Attributes:
        model: folder, hub id, or a name that the registry knows; None takes the embedded model.
        adapter: name of an installed adapter; None asks the model's config.
        heads: `auto` (selected on each picture), the name of a head set, its YAML file, or a list
            `L14H24,L14H13`. None takes the set that was made for this model, else `auto`.
        region: `paper`, `otsu`, `mean_std:c=1.5`, ...; None takes the head set's,
            else the model entry's, else `edge_level`.
        prompt: fields of `Prompt` that differ from the model entry's.
        device: `auto` takes CUDA, then MPS, then the CPU.
        dtype: `auto` takes the checkpoint's on an accelerator, float32 on the CPU.
        revision: of a hub id.
        trust_remote_code: lets a repository bring code of its own.
        options: switches of the adapter.
        postprocessors: names of installed post-processors in order, options behind them:
            `name:key=value,key=value`.
        batch_size: queries per forward pass.
        max_tokens: tokens per forward pass, padding counted; None sets no limit.
        max_pixels: larger pictures are refused.

    Raises:
        InputError: a field of the wrong type.

    Example:
        >>> spec = EngineSpec(region="otsu", prompt={"form": "chat"})
        >>> EngineSpec.from_dict(spec.to_dict()) == spec
        True
    """

    model: str | None = None
    adapter: str | None = None
    heads: str | None = None
    region: str | None = None
    prompt: Mapping[str, str] = field(default_factory=empty)
    device: str = "auto"
    dtype: str = "auto"
    revision: str | None = None
    trust_remote_code: bool = False
    options: Mapping[str, Any] = field(default_factory=empty)
    postprocessors: tuple[str, ...] = ()
    batch_size: int = 8
    max_tokens: int | None = None
    max_pixels: int = MAX_PIXELS

    def __post_init__(self) -> None:
        for name in ("prompt", "options"):
            value = getattr(self, name)
            if not isinstance(value, Mapping):
                raise InputError(f"engine spec: {name} holds fields by name, got {value!r}")
            object.__setattr__(self, name, MappingProxyType(dict(value)))
        object.__setattr__(self, "postprocessors", tuple(self.postprocessors))
        for name in ("model", "adapter", "heads", "region", "revision"):
            value = getattr(self, name)
            if not (value is None or isinstance(value, str)):
                raise InputError(
                    f"engine spec: {name} is text, got {type(value).__name__}; hand objects to "
                    "vg_engine.load beside the spec"
                )

    def __hash__(self) -> int:
        return hash(repr(sorted(self.to_dict().items())))

    @classmethod
    def of(cls, source: str | Path | EngineSpec | None) -> EngineSpec:
        """Describe an engine by its folder, hub id or name alone; a spec stays as it is.

        Raises:
            InputError: it is none of these.
        """
        if not isinstance(source, str | Path | EngineSpec | None):
            raise InputError(
                f"name a folder, a hub id or a known model, got {type(source).__name__}; hand a "
                "model in memory over as load(model=..., processor=...)"
            )
        if isinstance(source, EngineSpec):
            return source
        return cls(None if source is None else str(source))

    def to_dict(self) -> dict[str, Any]:
        """Write the spec as JSON takes it: the fields that differ from their defaults."""
        return {name: _plain(value) for name, value in self._stated().items()}

    def changed_by(self, other: EngineSpec) -> EngineSpec:
        """Take over each field of another spec that differs from its default."""
        return replace(self, **other._stated())

    def _stated(self) -> dict[str, Any]:
        plain = EngineSpec()
        values = {each.name: getattr(self, each.name) for each in fields(self)}
        return {name: value for name, value in values.items() if value != getattr(plain, name)}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> EngineSpec:
        """Read what `to_dict` wrote.

        Raises:
            InputError: a field that no spec has; the nearest one is named.
        """
        known = [each.name for each in fields(cls)]
        for name in data:
            if name not in known:
                raise InputError(f"an engine spec has no field {name!r}; {nearest(name, known)}")
        numbers = {
            name: data[name] for name in ("batch_size", "max_tokens", "max_pixels") if name in data
        }
        for name, value in numbers.items():
            if not isinstance(value, int):
                raise InputError(f"engine spec: {name} is a whole number, got {value!r}")
        names = data.get("postprocessors", ())
        if isinstance(names, str) or not all(isinstance(name, str) for name in names):
            raise InputError(f"engine spec: postprocessors is a list of names, got {names!r}")
        return cls(**{**data, "postprocessors": tuple(names)})


def _plain(value: object) -> object:
    if isinstance(value, Mapping):
        return dict(value)
    return list(value) if isinstance(value, tuple) else value
