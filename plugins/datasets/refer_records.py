"""References in REFER's form as samples: one expression is one sample."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from types import MappingProxyType
from typing import Any

import numpy as np
from jaxtyping import Float64

from vg_engine.core.errors import InputError, VGError
from vg_engine.core.evaluation.samples import Fault, Sample, TrueMask, as_fault, fit_boxes
from vg_engine.plugins.datasets import checks
from vg_engine.plugins.datasets.coco_file import (
    CocoAnnotation,
    CocoFile,
    CocoImage,
    check_extent,
    drawn,
    xyxy,
)
from vg_engine.plugins.datasets.refer_folder import in_split

NO_TARGET = -1  # replaces the annotation's number where there is no target


@dataclass(frozen=True)
class Reference:
    """Expressions about one target: an object, several, or none.

    Attributes:
        id: its own id.
        picture: id of its COCO picture.
        annotations: ids of its objects, each once, ascending; empty = no target.
        split: the split that it states.
        sentences: (id, text) of each expression.
    """

    id: int | str
    picture: int
    annotations: tuple[int, ...]
    split: str
    sentences: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Selection:
    """The references of one split.

    Attributes:
        records: references in the file's order; an unreadable one is a fault.
        taken: the splits that they state; all belong to the requested split.
    """

    records: tuple[Reference | Fault, ...]
    taken: tuple[str, ...]

    @property
    def references(self) -> tuple[Reference, ...]:
        """The readable references."""
        return tuple(one for one in self.records if isinstance(one, Reference))

    @property
    def silent(self) -> int:
        """The number of references without an expression."""
        return sum(not one.sentences for one in self.references)

    @property
    def sentences(self) -> int:
        """The number of expressions."""
        return sum(len(one.sentences) for one in self.references)

    @property
    def annotations(self) -> frozenset[int]:
        """The ids of all targets' annotations."""
        return frozenset(number for one in self.references for number in one.annotations)


def select(
    held: object, source: Path, split: str, prefix: str, *, several: bool = False
) -> Selection:
    """Select the references of a split.

    Args:
        held: the file's contents.
        source: the file, for messages.
        split: the requested split; see `in_split`.
        prefix: beginning of the ids of faults.
        several: a reference may mean several annotations, or none.

    Raises:
        InputError: the file holds no list of references, or none of that split.
    """
    if not isinstance(held, list) or not held:
        raise InputError(f"{source} holds no list of references; download it again")
    stated: dict[str, bool] = {}
    records: list[Reference | Fault] = []
    for place, one in enumerate(held):
        try:
            own = _split(one)
            if stated.setdefault(own, in_split(split, own)):
                records.append(_reference(one, own, several=several))
        except InputError as error:
            records.append(as_fault(f"{prefix}-record-{place}", error))
    taken = tuple(name for name, belongs in stated.items() if belongs)
    if not taken:
        known = ", ".join(sorted(stated)) or "none"
        raise InputError(f"no split {split!r} in {source}; there is {known}")
    return Selection(tuple(records), taken)


def _split(one: object) -> str:
    if not isinstance(one, Mapping) or not isinstance(one.get("split"), str):
        raise InputError("this reference states no split; correct the file")
    return str(one["split"])


def _reference(one: Mapping[str, Any], split: str, *, several: bool) -> Reference:
    number = one.get("ref_id")
    number = number if isinstance(number, str) else checks.whole(number)
    if number is None:
        raise InputError("this reference has no 'ref_id'; correct the file")
    picture = checks.whole(one.get("image_id"))
    if picture is None:
        raise InputError(
            f"'image_id' of reference {number} is not a whole number; correct the file"
        )
    sentences = one.get("sentences")
    if not isinstance(sentences, list):
        raise InputError(f"reference {number} has no list 'sentences'; correct the file")
    return Reference(
        id=number,
        picture=picture,
        annotations=_meant(number, one, several=several),
        split=split,
        sentences=tuple(_sentence(number, sentence) for sentence in sentences),
    )


def _meant(number: int | str, one: Mapping[str, Any], *, several: bool) -> tuple[int, ...]:
    """Read the annotations of a reference: none for `[-1]`, an empty list or `no_target`."""
    given = one.get("ann_id")
    stated = given if several and isinstance(given, list) else [given]
    ids = [each for each in map(checks.whole, stated) if each is not None]
    if len(ids) < len(stated):
        raise InputError(f"'ann_id' of reference {number} is not a whole number; fix the file")
    if not several:
        return tuple(ids)
    meant = sorted(set(ids) - {NO_TARGET})
    if meant and (NO_TARGET in ids or one.get("no_target") is True):
        raise InputError(
            f"reference {number} means annotation {meant[0]} and nothing at once; correct the file"
        )
    return tuple(meant)


def _sentence(number: int | str, sentence: object) -> tuple[str, str]:
    if not isinstance(sentence, Mapping) or type(sentence.get("sent_id")) not in (int, str):
        raise InputError(f"a sentence of reference {number} has no 'sent_id'; correct the file")
    texts = [sentence.get(key) for key in ("sent", "raw")]
    text = next((each for each in texts if isinstance(each, str) and each.strip()), "")
    return str(sentence["sent_id"]), text


@dataclass(frozen=True, eq=False)
class Truth:
    """The truth that all expressions of a reference share."""

    image: Path
    boxes: Float64[np.ndarray, "n 4"]
    mask: Callable[[], TrueMask] | None
    target: str
    groups: Mapping[str, str]
    size: tuple[int, int]


def samples(
    records: Sequence[Reference | Fault],
    coco: CocoFile,
    pictures: Path,
    prefix: str,
    *,
    groups: Callable[[Reference], Mapping[str, str]] | None = None,
) -> Iterator[Sample | Fault]:
    """Make a sample of every expression; a wrong truth makes a fault of each of its expressions.

    Args:
        records: references of one split.
        coco: the pictures and annotations that they name.
        pictures: folder of the pictures.
        prefix: beginning of the ids of samples.
        groups: further groups that scores are broken down by.
    """
    for one in records:
        if isinstance(one, Fault):
            yield one
            continue
        names = [f"{prefix}-{one.id}-{sentence}" for sentence, _ in one.sentences]
        try:
            truth = _truth(one, coco, pictures, groups(one) if groups else {})
        except VGError as error:
            yield from (as_fault(name, error) for name in names)
            continue
        for name, (_, text) in zip(names, one.sentences, strict=True):
            yield Sample(
                id=name,
                picture=str(one.picture),
                image=truth.image,
                text=text,
                boxes=truth.boxes,
                mask=truth.mask,
                target=truth.target,
                groups=truth.groups,
                size=truth.size,
            )


def _truth(one: Reference, coco: CocoFile, pictures: Path, more: Mapping[str, str]) -> Truth:
    image = coco.images.get(one.picture)
    if image is None:
        raise InputError(f"picture {one.picture} is not in instances.json; download both files")
    meant = [_annotation(number, coco, image) for number in one.annotations]
    if len(meant) > 1:
        # Among several objects a crowd is left out, as in gRefCOCO's own reader.
        meant = [each for each in meant if not each.iscrowd] or meant
    names = {_category(each, coco) for each in meant}
    category = {"category": names.pop() if len(names) == 1 else "several"} if names else {}
    return Truth(
        # The references' own file name ends in the annotation's number; no such file exists.
        image=pictures / PurePosixPath(image.file_name).name,
        boxes=fit_boxes(checks.boxes_array([xyxy(each.bbox) for each in meant]), image.size),
        mask=_mask(meant, image),
        target="+".join(map(str, one.annotations)) or "none",
        groups=MappingProxyType({"split": one.split, **category, **more}),
        size=image.size,
    )


def _annotation(number: int, coco: CocoFile, image: CocoImage) -> CocoAnnotation:
    found = coco.annotations.get(number)
    if found is None:
        raise InputError(f"annotation {number} is not in instances.json; download both files")
    if found.image_id != image.id:
        raise InputError(
            f"annotation {number} is of picture {found.image_id}, and the reference of {image.id}; "
            "are both files of one release?"
        )
    check_extent(found)
    return found


def _category(annotation: CocoAnnotation, coco: CocoFile) -> str:
    number = annotation.category_id
    return "unknown" if number is None else coco.categories.get(number, str(number))


def _mask(meant: Sequence[CocoAnnotation], image: CocoImage) -> Callable[[], TrueMask] | None:
    """Return a function that draws the union of the targets; None where an outline is unknown."""
    if not all(each.outline for each in meant):
        return None
    return functools.partial(drawn, tuple(meant), image.size)
