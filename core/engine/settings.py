"""Settings of an engine: its prompt, its read-out and its batches."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields, replace
from numbers import Integral, Real
from types import MappingProxyType
from typing import Any

from vg_engine.core.contract.prompt import Prompt
from vg_engine.core.errors import InputError, nearest
from vg_engine.core.readout.instances import ReadOut
from vg_engine.core.readout.regions import Region

_KINDS: Mapping[str, tuple[Any, str]] = MappingProxyType(
    {
        "region": (Callable, "a function; vg_engine.load takes its name"),
        "prompt": (Prompt, "a vg_engine.Prompt"),
        "sigma": (Real, "a number"),
        **dict.fromkeys(("kernel", "k", "batch_size"), (Integral, "a whole number")),
        "max_tokens": (Integral | None, "a whole number or None"),
    }
)


@dataclass(frozen=True)
class Settings:
    """Settings of an engine; the defaults are the paper's.

    Attributes:
        region, region_name: how the combined map becomes a region, and its name for provenance.
        prompt: how an expression is put to the model.
        sigma, kernel: of the Gaussian that smooths each head's map, in cells.
        k: heads to combine where they are selected per picture.
        batch_size: queries per forward pass.
        max_tokens: tokens per forward pass, padding counted; a pass with more is split. None sets
            no limit.
    """

    region: Region
    region_name: str
    prompt: Prompt = field(default_factory=Prompt)
    sigma: float = 1.0
    kernel: int = 7
    k: int = 3
    batch_size: int = 8
    max_tokens: int | None = None

    def __post_init__(self) -> None:
        for name, (kind, words) in _KINDS.items():
            value = getattr(self, name)
            if not isinstance(value, kind):
                raise InputError(f"{name} of an engine is {words}, got {type(value).__name__}")
        if self.sigma < 0 or self.kernel < 1 or self.kernel % 2 == 0:
            raise InputError(f"sigma {self.sigma}, kernel {self.kernel}: sigma >= 0, kernel odd")
        if self.k < 1 or self.batch_size < 1:
            raise InputError(f"k {self.k} and batch size {self.batch_size} must be at least 1")
        if self.max_tokens is not None and self.max_tokens < 1:
            raise InputError(f"max_tokens must be at least 1, got {self.max_tokens}")

    def changed(self, changes: Mapping[str, Any]) -> Settings:
        """Change some of the settings.

        Raises:
            InputError: an engine has no such setting, or the setting no such value.
        """
        known = [each.name for each in fields(self)]
        for name in changes:
            if name not in known:
                raise InputError(f"an engine has no {name!r}; {nearest(name, [*known, 'heads'])}")
        return replace(self, **changes)

    def asked(self, prompt: Prompt | None) -> Prompt:
        """The prompt of a call that may bring one of its own."""
        return self.prompt if prompt is None else self.changed({"prompt": prompt}).prompt

    @property
    def read_out(self) -> ReadOut:
        """The read-out that these settings describe."""
        return ReadOut(self.region, self.sigma, self.kernel)
