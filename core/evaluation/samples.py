"""Data sets: expressions about pictures, with their truth where it is known.

A data set is read lazily and in the same order every time. A record that cannot be used is passed
on as a `Fault`, so that it is counted and shown and never silently dropped.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Float64

from vg_engine.core.contract.prompt import clean_expression
from vg_engine.core.errors import ExpressionError, InputError, VGError

# Annotated boxes are rounded: a box that sticks out by less is cut, by more it is wrong.
_ROUNDING = 1.0


@dataclass(frozen=True, eq=False)
class TrueMask:
    """The pixels that an expression means.

    Attributes:
        mask: in original upright pixels.
        ignored: pixels that are not scored (ReasonSeg's 255); None = all are scored.
    """

    mask: Bool[np.ndarray, "height width"]
    ignored: Bool[np.ndarray, "height width"] | None = None


@dataclass(frozen=True, eq=False)
class Sample:
    """One expression about one picture.

    Attributes:
        id: unique in its data set.
        picture: name of the picture; samples that share it are about the same pixels, and
            intervals are clustered by it.
        image: anything that the engine takes as a picture (a path, bytes, an array), or a function
            without arguments that returns it on demand.
        text: the expression, unchanged.
        boxes: n x 4, xyxy in original upright pixels, right and bottom exclusive. None = not
            known; n = 0: nothing in the picture is meant.
        mask: draws the true mask; None = not known.
        target: name of the target; two expressions with the same target mean the same place.
            None = compare the boxes.
        groups: groups that scores are broken down by (`kind`: `colour`).
        size: (width, height) that the annotation states for its picture; None = not stated.
    """

    id: str
    picture: str
    image: object
    text: str
    boxes: Float[np.ndarray, "n 4"] | None = None
    mask: Callable[[], TrueMask] | None = None
    target: str | None = None
    groups: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    size: tuple[int, int] | None = None

    def check_size(self, size: tuple[int, int]) -> None:
        """Check that the picture has the size that the annotation states.

        Args:
            size: (width, height) of the picture, upright after its EXIF orientation.

        Raises:
            InputError: it has another size, so boxes and masks are of another frame.
        """
        if self.size is not None and self.size != size:
            raise InputError(
                f"its annotation is for a picture of {self.size[0]} x {self.size[1]}, but the "
                f"upright picture is {size[0]} x {size[1]}; correct the annotation, or use the "
                "picture that was annotated"
            )

    def open(self) -> object:
        """Return the picture; it is read now where `image` is a function."""
        return self.image() if callable(self.image) else self.image

    def same_target(self, other: Sample) -> bool:
        """Check whether both are known to mean the same object."""
        if self.target is not None and other.target is not None:
            return self.target == other.target
        if self.boxes is not None and other.boxes is not None:
            return bool(np.array_equal(self.boxes, other.boxes))
        return self.text == other.text


@dataclass(frozen=True)
class Fault:
    """A record that cannot be used.

    Attributes:
        id: id of the record, or its place in its file.
        error: one sentence with the reason and what to do.
    """

    id: str
    error: str


@dataclass(frozen=True, eq=False)
class DataSet:
    """A data set that is ready to be read.

    Attributes:
        name: the name that opens it again (`refcoco:/data/refer?by=unc&split=testA`).
        records: returns a fresh iterator over the records, in the same order each time.
        revision: digest of the annotations (not of the pictures); a study resumes only on the
            revision that it was started on.
        statements: remarks for the user (counts that differ from the published ones).
    """

    name: str
    records: Callable[[], Iterator[Sample | Fault]]
    revision: str
    statements: tuple[str, ...] = ()

    def __iter__(self) -> Iterator[Sample | Fault]:
        """Iterate over the records; empty expressions and repeated ids become faults."""
        seen: set[str] = set()
        for record in self.records():
            if isinstance(record, Sample):
                yield _checked(record, seen)
            else:
                yield record


def _checked(sample: Sample, seen: set[str]) -> Sample | Fault:
    if sample.id in seen:
        return Fault(sample.id, "an earlier record has the same id; give each record its own")
    seen.add(sample.id)
    try:
        clean_expression(sample.text)
    except ExpressionError:
        return Fault(sample.id, "it has no expression; add the words that name the target")
    # Copies: a reader may fill one array again and again.
    held: dict[str, Any] = {
        name: value.copy()
        for name in ("image", "boxes")
        if isinstance(value := getattr(sample, name), np.ndarray | bytearray)
    }
    return replace(sample, **held, groups=MappingProxyType(dict(sample.groups)))


def fit_boxes(boxes: Float[np.ndarray, "n 4"], size: tuple[int, int]) -> Float64[np.ndarray, "n 4"]:
    """Check that true boxes fit the picture of `size` = (width, height), and cut them to it.

    Raises:
        InputError: a box is not xyxy, or sticks out by more than a pixel's rounding.
    """
    given = np.asarray(boxes, dtype=np.float64).reshape(-1, 4)
    limit = np.array([*size, *size], dtype=np.float64)
    for box in given:
        if not np.isfinite(box).all() or (box[:2] >= box[2:]).any():
            raise InputError(f"box {box.tolist()} is empty or not xyxy; correct the annotation")
        if (box < -_ROUNDING).any() or (box > limit + _ROUNDING).any():
            raise InputError(
                f"box {box.tolist()} lies outside its picture of {size[0]} x {size[1]}; is it "
                "xyxy in pixels of the upright picture?"
            )
        if (box <= 1).all():
            raise InputError(
                f"box {box.tolist()} lies in one pixel; if it is shares of the sides, multiply "
                "them by the picture's width and height"
            )
    cut = np.clip(given, 0.0, limit)
    if (cut[:, :2] >= cut[:, 2:]).any():
        raise InputError(f"no part of a box lies inside the picture of {size[0]} x {size[1]}")
    return cut


def as_fault(name: str, error: VGError) -> Fault:
    """Make the fault of a record that raised an error."""
    return Fault(name, " ".join(str(error).split()))
