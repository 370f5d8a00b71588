"""How an engine asks and reads."""

from __future__ import annotations

from dataclasses import dataclass, field

from vg_engine.core.contract.prompt import Prompt
from vg_engine.core.errors import InputError
from vg_engine.core.readout.regions import Region


@dataclass(frozen=True)
class Settings:
    """How an engine asks and reads; the defaults are the paper's.

    Attributes:
        prompt: how an expression is put to the model.
        region, region_name: how the combined map becomes a region, and its name for provenance.
        sigma, kernel: of the Gaussian that smooths each head's map, in cells.
        k: heads to combine where they are selected per picture.
        batch_size: queries per forward pass.
    """

    region: Region
    region_name: str
    prompt: Prompt = field(default_factory=Prompt)
    sigma: float = 1.0
    kernel: int = 7
    k: int = 3
    batch_size: int = 8

    def __post_init__(self) -> None:
        if self.sigma < 0 or self.kernel < 1 or self.kernel % 2 == 0:
            raise InputError(f"sigma {self.sigma}, kernel {self.kernel}: sigma >= 0, kernel odd")
        if self.k < 1 or self.batch_size < 1:
            raise InputError(f"k {self.k} and batch size {self.batch_size} must be at least 1")
