"""The numbers that a study takes, and the largest of each that ends within days."""

from __future__ import annotations

from vg_engine.core.errors import InputError

_RANGES = {
    "samples": (1, 1_000_000),
    "draws": (1, 1_000),
    "random_draws": (1, 1_000),
    "resamples": (1, 1_000_000),
    "limit": (1, 1_000_000_000),
    "k": (1, 1_000_000),
    "per_sample": (1, 1_000_000),
    "per_head": (0, 1_000_000),
    "seed": (0, 2**64 - 1),
}
_USUAL = {"samples": "1,000", "draws": "5 to 20", "random_draws": "20", "resamples": "2,000"}


def check(**numbers: int | None) -> None:
    """Refuse numbers that cannot be, or with which a study would not finish.

    Raises:
        InputError: one is out of its range; the message says what is usual.
    """
    for name, value in numbers.items():
        least, most = _RANGES[name]
        words = name.replace("_", " ")
        usual = f"; usual is {_USUAL[name]}" if name in _USUAL else ""
        if value is not None and value < least:
            raise InputError(f"{words} must be at least {least}, got {value}{usual}")
        if value is not None and value > most:
            raise InputError(f"{words} must be at most {most:,}, got {value:,}{usual}")
