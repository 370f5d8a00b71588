"""The files of a folder of references (REFER's layout).

```
/data/refer/refcoco/refs(unc).p          the references, with the authors of the split
/data/refer/refcoco/instances.json       COCO's pictures and annotations
/data/refer/images/train2014/*.jpg       COCO's pictures, here or in one of `PICTURES`
```
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from vg_engine.core.errors import InputError
from vg_engine.plugins.datasets import checks

INSTANCES = "instances.json"
# Places of pictures, below the folder that holds the sets and below the one above it.
PICTURES = (
    "images/mscoco/images/train2014",
    "images/mscoco/train2014",
    "images/train2014",
    "train2014",
    "coco/train2014",
    "coco/images/train2014",
    "coco2014/train2014",
    "mscoco/train2014",
)
# A set's folder and its other names.
FOLDERS: Mapping[str, tuple[str, ...]] = {
    "refcoco": ("refcoco",),
    "refcoco+": ("refcoco+", "refcocoplus", "refcocop"),
    "refcocog": ("refcocog",),
    "grefcoco": ("grefcoco", "gRefCOCO"),
}
_LISTED = 8  # number of names in a message


@dataclass(frozen=True)
class Files:
    """The sources of one set: its references, its COCO file and the folder of its pictures."""

    references: Path
    instances: Path
    pictures: Path


def find(
    name: str, path: Path | None, *, by: str, stem: str, endings: Sequence[str], images: str
) -> Files:
    """Find the files of one set.

    Args:
        name: name of the set, a key of `FOLDERS`.
        path: the folder that holds the sets, or the folder of this one.
        by: authors of the split: the word in brackets in the name of its file.
        stem: that name before the brackets.
        endings: possible endings of that name, in order of preference.
        images: the folder of the pictures; empty = search the places of `PICTURES`.

    Raises:
        InputError: a file or folder is missing; the message lists what is there instead.
    """
    place = checks.need_folder(name, path, f"{name}:/data/refer")
    folder = _folder(name, place, stem)
    references = _references(name, folder, by=by, stem=stem, endings=endings)
    instances = folder / INSTANCES
    if not instances.is_file():
        raise InputError(f"{folder} has no {INSTANCES} beside {references.name}; download both")
    return Files(references, instances, _pictures(name, folder.absolute(), images))


def _folder(name: str, place: Path, stem: str) -> Path:
    for known in FOLDERS[name]:
        if (place / known).is_dir():
            return place / known
    own = place.absolute().name
    other = next((set_ for set_, names in FOLDERS.items() if own in names and set_ != name), None)
    if other is not None:
        raise InputError(f"{place} is the folder of {other}; write {other}:{place}")
    if any(place.glob(f"{stem}(*).*")):
        return place
    raise InputError(
        f"{place} holds no folder {name!r} and no {stem}(...) file; it holds "
        f"{_listed(entry.name for entry in _entries(place))}"
    )


def _references(name: str, folder: Path, *, by: str, stem: str, endings: Sequence[str]) -> Path:
    pattern = re.compile(rf"{re.escape(stem)}\((.+)\)\.({'|'.join(endings)})")
    found = {
        (match[1], match[2]): entry
        for entry in _entries(folder)
        if (match := pattern.fullmatch(entry.name)) and entry.is_file()
    }
    for ending in endings:
        if (by, ending) in found:
            return found[by, ending]
    if not found:
        raise InputError(
            f"{folder} has no file {stem}({by}).{endings[0]} for {name}; it holds "
            f"{_listed(entry.name for entry in _entries(folder))}"
        )
    raise InputError(
        f"no {name} split by {by!r} in {folder}; there is "
        f"{', '.join(sorted(entry.name for entry in found.values()))}: write by="
    )


def _pictures(name: str, folder: Path, images: str) -> Path:
    if images:
        given = Path(images).expanduser()
        if not given.is_dir():
            raise InputError(f"images={images} is no folder; name the one of COCO's train2014")
        inner = given / "train2014"
        return inner if inner.is_dir() else given
    above = (folder.parent, folder, folder.parent.parent)
    there = [base / inside for base in above for inside in PICTURES if (base / inside).is_dir()]
    if there:
        return max(there, key=lambda place: any(place.iterdir()))  # one may be left over, empty
    raise InputError(
        f"the pictures of {name} (COCO's train2014) are not below {above[0]}, {above[1]} or "
        f"{above[2]}, as {', '.join(PICTURES)}; name their folder: images=/data/coco/train2014"
    )


def _entries(folder: Path) -> list[Path]:
    with checks.readable(folder):
        return list(folder.iterdir())


def _listed(names: Iterable[str]) -> str:
    known = sorted(names)
    more = f" and {len(known) - _LISTED} more" if len(known) > _LISTED else ""
    return (", ".join(map(ascii, known[:_LISTED])) + more) or "nothing"


def in_split(asked: str, stated: str) -> bool:
    """Check that a reference of the split `stated` belongs to the split `asked`.

    `testAB` belongs to `testA` and to `testB`; every test split belongs to `test`. Other splits
    must be equal.

    >>> in_split("testA", "testAB"), in_split("test", "testB"), in_split("val", "testB")
    (True, True, False)
    """
    test = "test"
    if asked.startswith(test) and stated.startswith(test):
        return set(asked.removeprefix(test)) <= set(stated.removeprefix(test))
    return asked == stated
