"""Where a folder of references (REFER's layout) keeps its files.

```
/data/refer/refcoco/refs(unc).p          the references, by who split them
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
from vg_engine.plugins.datasets import reading

INSTANCES = "instances.json"
# Where pictures are looked for, below the folder that holds the sets and below the one above it.
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
# A set's folder and how else it is called.
FOLDERS: Mapping[str, tuple[str, ...]] = {
    "refcoco": ("refcoco",),
    "refcoco+": ("refcoco+", "refcocoplus", "refcocop"),
    "refcocog": ("refcocog",),
    "grefcoco": ("grefcoco", "gRefCOCO"),
}
_LISTED = 8  # names that a message shows


@dataclass(frozen=True)
class Files:
    """What one set is read from: its references, its COCO file and the folder of its pictures."""

    references: Path
    instances: Path
    pictures: Path


def find(
    name: str, path: Path | None, *, by: str, stem: str, endings: Sequence[str], images: str
) -> Files:
    """The files of one set.

    Args:
        name: of the set, a key of `FOLDERS`.
        path: the folder that holds the sets, or the folder of this one.
        by: who split it: the word in brackets in the name of its file.
        stem: that name before the brackets.
        endings: and after them, the first first.
        images: the folder of the pictures; empty = look in the places of `PICTURES`.

    Raises:
        InputError: one of them is missing; the message says what there is instead.
    """
    place = reading.need_folder(name, path, f"{name}:/data/refer")
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
    for base in above:
        for inside in PICTURES:
            if (base / inside).is_dir():
                return base / inside
    raise InputError(
        f"the pictures of {name} (COCO's train2014) are not below {above[0]}, {above[1]} or "
        f"{above[2]}, as {', '.join(PICTURES)}; name their folder: images=/data/coco/train2014"
    )


def _entries(folder: Path) -> list[Path]:
    try:
        return list(folder.iterdir())
    except OSError as error:
        raise InputError(f"{folder} cannot be read ({error.strerror}); check its rights") from error


def _listed(names: Iterable[str]) -> str:
    known = sorted(names)
    more = f" and {len(known) - _LISTED} more" if len(known) > _LISTED else ""
    return (", ".join(map(ascii, known[:_LISTED])) + more) or "nothing"


def in_split(asked: str, stated: str) -> bool:
    """Whether a reference that states one split belongs to the one asked for.

    `testAB` belongs to `testA` and to `testB`; every test split belongs to `test`. Others must be
    the same.

    >>> in_split("testA", "testAB"), in_split("test", "testB"), in_split("val", "testB")
    (True, True, False)
    """
    test = "test"
    if asked.startswith(test) and stated.startswith(test):
        return set(asked.removeprefix(test)) <= set(stated.removeprefix(test))
    return asked == stated
