"""Published counts of data sets, so that an incomplete copy does not go unnoticed."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import yaml

_FILE = Path(__file__).with_name("counts.yaml")


@dataclass(frozen=True)
class Published:
    """The published counts of one split; None = not published.

    Attributes:
        sentences: number of expressions, which are the samples.
        references: number of objects that they refer to.
    """

    sentences: int | None = None
    references: int | None = None


def published(name: str, by: str, split: str) -> Published:
    """Look up the published counts of a split; all None where there are none.

    >>> published("refcoco", "unc", "val").sentences
    10834
    """
    counts = yaml.safe_load(_FILE.read_text(encoding="utf-8"))
    found = counts.get(name, {}).get(by, {}).get("splits", {}).get(split, {})
    return Published(**found)


def differences(
    name: str, by: str, split: str, *, sentences: int, references: int
) -> tuple[str, ...]:
    """Report each count that differs from the published one.

    >>> differences("refcoco", "unc", "val", sentences=10_834, references=3_811)
    ()
    """
    known = published(name, by, split)
    pairs = (
        ("sentences", sentences, known.sentences),
        ("references", references, known.references),
    )
    return tuple(
        f"{name} split {split} (by {by}) has {here:,} {what} here but {there:,} as published; "
        "scores on the two cannot be compared"
        for what, here, there in pairs
        if there is not None and here != there
    )
