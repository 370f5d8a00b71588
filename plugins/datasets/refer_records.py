"""References of REFER's form as samples: one sentence is one sample."""

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
from vg_engine.plugins.datasets import masks, reading
from vg_engine.plugins.datasets.coco_file import CocoAnnotation, CocoFile, CocoImage, xyxy
from vg_engine.plugins.datasets.refer_folder import in_split

NO_TARGET = -1  # stands for the annotation where nothing in the picture is meant
_AGREE = 0.5  # intersection over union of a box and of its own outline, at least


@dataclass(frozen=True)
class Reference:
    """One object, or several, and what is said of it.

    Attributes:
        id: its own.
        picture: id of its COCO picture.
        annotations: ids of what it means, each once, in rising order; none = nothing is meant.
        split: as it states it.
        sentences: (id, text) of each.
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
        records: in the file's order; a reference that cannot be read is a fault.
        taken: the splits they state, which all belong to the one asked for.
    """

    records: tuple[Reference | Fault, ...]
    taken: tuple[str, ...]

    @property
    def references(self) -> tuple[Reference, ...]:
        """Those that can be read."""
        return tuple(one for one in self.records if isinstance(one, Reference))

    @property
    def silent(self) -> int:
        """How many of them hold no sentence."""
        return sum(not one.sentences for one in self.references)

    @property
    def sentences(self) -> int:
        """How many they hold."""
        return sum(len(one.sentences) for one in self.references)

    @property
    def annotations(self) -> frozenset[int]:
        """The ids of all that is meant."""
        return frozenset(number for one in self.references for number in one.annotations)


def select(
    held: object, source: Path, split: str, prefix: str, *, several: bool = False
) -> Selection:
    """The references of a split.

    Args:
        held: what the file holds.
        source: the file, for messages.
        split: asked for; see `in_split`.
        prefix: what the ids of faults begin with.
        several: a reference may mean several annotations, or none.

    Raises:
        InputError: it holds no list of references, or none of that split.
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
        raise InputError("this reference states no split; mend the file")
    return str(one["split"])


def _reference(one: Mapping[str, Any], split: str, *, several: bool) -> Reference:
    number = one.get("ref_id")
    if isinstance(number, bool) or not isinstance(number, int | str):
        raise InputError("this reference has no 'ref_id'; mend the file")
    picture = one.get("image_id")
    if type(picture) is not int:
        raise InputError(f"'image_id' of reference {number} is no whole number; mend the file")
    sentences = one.get("sentences")
    if not isinstance(sentences, list):
        raise InputError(f"reference {number} has no list 'sentences'; mend the file")
    return Reference(
        id=number,
        picture=picture,
        annotations=_meant(number, one, several=several),
        split=split,
        sentences=tuple(_sentence(number, said) for said in sentences),
    )


def _meant(number: int | str, one: Mapping[str, Any], *, several: bool) -> tuple[int, ...]:
    """The annotations of a reference; `[-1]`, an empty list and `no_target` all mean nothing."""
    given = one.get("ann_id")
    ids = given if several and isinstance(given, list) else [given]
    if any(type(each) is not int for each in ids):
        raise InputError(f"'ann_id' of reference {number} is no whole number; mend the file")
    if not several:
        return tuple(ids)
    meant = sorted(set(ids) - {NO_TARGET})
    if meant and (NO_TARGET in ids or one.get("no_target") is True):
        raise InputError(
            f"reference {number} means annotation {meant[0]} and nothing at once; mend the file"
        )
    return tuple(meant)


def _sentence(number: int | str, said: object) -> tuple[str, str]:
    if not isinstance(said, Mapping) or type(said.get("sent_id")) not in (int, str):
        raise InputError(f"a sentence of reference {number} has no 'sent_id'; mend the file")
    texts = [said.get(key) for key in ("sent", "raw")]
    text = next((each for each in texts if isinstance(each, str) and each.strip()), "")
    return str(said["sent_id"]), text


@dataclass(frozen=True, eq=False)
class Truth:
    """What all sentences of a reference share."""

    image: Path
    boxes: Float64[np.ndarray, "n 4"]
    mask: Callable[[], TrueMask] | None
    target: str
    groups: Mapping[str, str]


def samples(
    records: Sequence[Reference | Fault],
    coco: CocoFile,
    pictures: Path,
    prefix: str,
    *,
    groups: Callable[[Reference], Mapping[str, str]] | None = None,
) -> Iterator[Sample | Fault]:
    """Every sentence of every reference; where its truth is wrong, each of them is a fault.

    Args:
        records: of one split.
        coco: the pictures and annotations they name.
        pictures: folder of the pictures.
        prefix: what the ids of samples begin with.
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
            )


def _truth(one: Reference, coco: CocoFile, pictures: Path, more: Mapping[str, str]) -> Truth:
    image = coco.images.get(one.picture)
    if image is None:
        raise InputError(f"picture {one.picture} is not in instances.json; download both files")
    meant = [_annotation(number, coco, image) for number in one.annotations]
    if len(meant) > 1:
        # Where several are meant, a crowd among them is left out, as gRefCOCO's own reader does.
        meant = [each for each in meant if not each.iscrowd] or meant
    names = {_category(each, coco) for each in meant}
    category = {"category": names.pop() if len(names) == 1 else "several"} if names else {}
    return Truth(
        # The name in the references ends in the annotation's number; there is no such file.
        image=pictures / PurePosixPath(image.file_name).name,
        boxes=fit_boxes(reading.boxes_array([xyxy(each.bbox) for each in meant]), image.size),
        mask=_mask(meant, image),
        target="+".join(map(str, one.annotations)) or "none",
        groups=MappingProxyType({"split": one.split, **category, **more}),
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
    _check_extent(found)
    return found


def _category(annotation: CocoAnnotation, coco: CocoFile) -> str:
    number = annotation.category_id
    return "unknown" if number is None else coco.categories.get(number, str(number))


def _check_extent(annotation: CocoAnnotation) -> None:
    """Refuse a box that is far from its own outline: it was written in another form.

    Raises:
        InputError: they share less than half of what they cover.
    """
    polygons = annotation.outline
    if not isinstance(polygons, tuple) or not any(len(polygon) > 1 for polygon in polygons):
        return
    left, top, right, bottom = xyxy(annotation.bbox)
    across = [x for polygon in polygons for x in polygon[0::2]]
    down = [y for polygon in polygons for y in polygon[1::2]]
    outline = min(across), min(down), max(across), max(down)
    shared = max(0.0, min(right, outline[2]) - max(left, outline[0])) * max(
        0.0, min(bottom, outline[3]) - max(top, outline[1])
    )
    areas = (right - left) * (bottom - top)
    areas += (outline[2] - outline[0]) * (outline[3] - outline[1])
    if shared < _AGREE * (areas - shared):
        raise InputError(
            f"the box of annotation {annotation.id} is far from its own outline; "
            "is it x, y, width, height?"
        )


def _mask(meant: Sequence[CocoAnnotation], image: CocoImage) -> Callable[[], TrueMask] | None:
    """Draws the union of what is meant; None where an outline is not known."""
    if not all(each.outline for each in meant):
        return None
    return functools.partial(_drawn, tuple(meant), image.size)


def _drawn(meant: Sequence[CocoAnnotation], size: tuple[int, int]) -> TrueMask:
    union = np.zeros((size[1], size[0]), np.bool_)
    for each in meant:
        union |= masks.from_segmentation(each.segmentation, size)
    return TrueMask(union)
