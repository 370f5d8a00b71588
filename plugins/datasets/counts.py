"""Published counts of data sets, so that an incomplete copy does not go unnoticed."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import yaml

_FILE = Path(__file__).with_name("counts.yaml")


@dataclass(frozen=True)
class Published:
    """The published counts of one split; None = not stated anywhere.

    Attributes:
        sentences: one sentence is one sample.
        references: one reference is one object with all its sentences.
    """

    sentences: int | None = None
    references: int | None = None


def published(name: str, by: str, split: str) -> Published:
    """Look up the published counts of a split; an unknown split has none.

    >>> published("refcoco", "unc", "val").sentences
    10834
    """
    held = yaml.safe_load(_FILE.read_text(encoding="utf-8"))
    found = held.get(name, {}).get(by, {}).get("splits", {}).get(split, {})
    return Published(**found)


def differences(
    name: str, by: str, split: str, *, sentences: int, references: int
) -> tuple[str, ...]:
    """Describe each count that differs from the published one, in a sentence for the user.

    >>> differences("refcoco", "unc", "val", sentences=10_834, references=3_811)
    ()
    """
    known = published(name, by, split)
    pairs = (
        ("sentences", sentences, known.sentences),
        ("references", references, known.references),
    )
    return tuple(
        f"{name} split {split} (by {by}) holds {here:,} {what} here and {there:,} as published; "
        "scores of the two cannot be compared"
        for what, here, there in pairs
        if there is not None and here != there
    )
