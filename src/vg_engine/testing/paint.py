"""The paint probe: does a cell lie where the adapter says that it lies?

A thin strip is painted along one side of a predicted cell, just inside, and the image feature that
moves most must be that cell's: a grid that is off by an eighth of a cell fails. Where a strip would
hold no whole pixel, the cell's middle is painted. Mixing between patches is switched off in the
vision tower, so that a feature depends on its own pixels alone.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Float32

from vg_engine.core.contract.inputs import Expression, PreparedInputs
from vg_engine.core.contract.picture import Picture
from vg_engine.core.geometry import View
from vg_engine.testing.harness import ContractError, Harness, Size, noise

# Square, wide, tall, very wide, very tall, odd, tiny and large, in pixels.
SHAPES: tuple[Size, ...] = (
    (240, 240),
    (333, 190),
    (187, 341),
    (900, 150),
    (130, 777),
    (97, 61),
    (1201, 899),
)
_BATCH = 16
# How many cells of a picture are painted where a few are enough, and of each of its views.
_FEW, _FEWEST, _MOST = 20, 2, 5
# Left, top, right, bottom of what is painted, in cells.
_MIDDLE = (0.15, 0.15, 0.85, 0.85)
_STRIPS = {
    "left": (0.04, 0.2, 0.2, 0.8),
    "top": (0.2, 0.04, 0.8, 0.2),
    "right": (0.8, 0.2, 0.96, 0.8),
    "bottom": (0.2, 0.8, 0.8, 0.96),
}
_SCORED = 0.9
Features = Callable[[Harness, PreparedInputs], torch.Tensor]
Probes = Literal["few", "all"]


@dataclass
class PaintReport:
    """The result of a paint probe.

    Attributes:
        planned: probes that were planned.
        right: probes whose cell moved most.
        wrong: a sentence per probe where another did.
        beside: how many of these were direct neighbours.
        skipped: a sentence per probe that could not be painted inside one cell.
    """

    planned: int = 0
    right: int = 0
    wrong: list[str] = field(default_factory=list)
    beside: int = 0
    skipped: list[str] = field(default_factory=list)

    def check(self) -> None:
        """Refuse wrong cells, and a probe that skipped too much to mean anything."""
        if self.wrong:
            shown = "; ".join(self.wrong[:5])
            raise ContractError(f"{len(self.wrong)} of {self.planned} cells are wrong: {shown}")
        if self.right < _SCORED * self.planned or not self.planned:
            raise ContractError(
                f"only {self.right} of {self.planned} planned probes could be scored: "
                + "; ".join(self.skipped[:5])
            )


@dataclass(frozen=True)
class _Probe:
    view: int
    row: int
    col: int
    box: tuple[int, int, int, int]


def probe(
    opened: Harness,
    features: Features,
    sizes: Sequence[Size] = SHAPES,
    *,
    strips: bool = True,
    probes: Probes = "few",
) -> PaintReport:
    """Paint corners, edges and inner cells of every view of pictures of several shapes.

    Args:
        opened: with mixing switched off in the vision tower.
        features: the image features as the language model gets them: sequences x keys x width.
        sizes: (width, height) of the pictures.
        strips: False paints the middle of cells alone, for features that mix with their
            neighbours (a grid that is shrunk by interpolation, overlapping patches).
        probes: "few" paints opposite corners and some other cells of a view, two to five by the
            number of views; "all" paints up to thirteen of each.
    """
    report = PaintReport()
    sides = itertools.cycle(_STRIPS.values() if strips else (_MIDDLE,))
    for seed, size in enumerate(sizes):
        picture = noise(size, seed)
        inputs = opened.prepare([picture], [Expression(0, "it")])
        views = opened.views(inputs)[0]
        blank = features(opened, inputs)[0]
        generator = np.random.default_rng(seed)
        cells = [
            (index, *cell)
            for index, view in enumerate(views)
            for cell in _cells(view, size, generator, _count(views, probes), turned=index % 2 > 0)
        ]
        planned = list(_planned(views, cells, size, report, sides))
        for first in range(0, len(planned), _BATCH):
            some = planned[first : first + _BATCH]
            painted = [_painted(picture, each.box) for each in some]
            asked = [Expression(i, "it") for i in range(len(some))]
            moved = features(opened, opened.prepare(painted, asked)) - blank
            for each, by in zip(some, moved.norm(dim=-1).numpy(force=True), strict=True):
                _score(each, by, views, size, report)
    return report


def _count(views: Sequence[View], probes: Probes) -> int | None:
    """Number of painted cells per view; None paints all that there are to choose from."""
    return None if probes == "all" else min(_MOST, max(_FEWEST, _FEW // len(views)))


def _planned(
    views: Sequence[View],
    cells: Sequence[tuple[int, int, int]],
    size: Size,
    report: PaintReport,
    sides: Iterator[tuple[float, float, float, float]],
) -> Iterator[_Probe]:
    for index, row, col in cells:
        view = views[index]
        report.planned += 1
        box = _inside(view, row, col, size, next(sides))
        box = box or _inside(view, row, col, size, _MIDDLE)
        if box is None:
            report.skipped.append(
                f"{size[0]} x {size[1]}, {view.name} cell {row},{col}: holds no whole pixel"
            )
        else:
            yield _Probe(index, row, col, box)


def _cells(
    view: View, size: Size, generator: np.random.Generator, count: int | None, *, turned: bool
) -> list[tuple[int, int]]:
    """Cells of what shows the picture: corners, middles of the edges, the centre and others.

    Args:
        view: with its grid.
        size: of the picture.
        generator: chooses the others.
        count: at most so many, two opposite corners first; None for all.
        turned: takes the other two corners.
    """
    left, top, right, bottom = view.to_original.inverse_box(
        (0.0, 0.0, float(size[0]), float(size[1]))
    )
    # Cells that are mostly padding have too little picture to paint on.
    cols = range(max(0, round(left)), min(view.shape[1], round(right)))
    rows = range(max(0, round(top)), min(view.shape[0], round(bottom)))
    if not rows or not cols:
        return []
    others = [(int(generator.choice(rows)), int(generator.choice(cols))) for _ in range(4)]
    if count is None:
        return sorted({*others, *itertools.product(_spread(rows), _spread(cols))})
    first, last = (cols[-1], cols[0]) if turned else (cols[0], cols[-1])
    chosen = dict.fromkeys([(rows[0], first), (rows[-1], last), *others])
    return sorted([*chosen][:count])


def _spread(cells: range) -> set[int]:
    return {cells[0], cells[len(cells) // 2], cells[-1]}


def _inside(
    view: View, row: int, col: int, size: Size, part: tuple[float, float, float, float]
) -> tuple[int, int, int, int] | None:
    """Whole pixels inside a part of a cell and inside the picture."""
    left, top, right, bottom = view.to_original.box(
        (col + part[0], row + part[1], col + part[2], row + part[3])
    )
    box = (
        max(0, int(np.ceil(left))),
        max(0, int(np.ceil(top))),
        min(size[0], int(np.floor(right))),
        min(size[1], int(np.floor(bottom))),
    )
    return box if box[0] < box[2] and box[1] < box[3] else None


def _painted(picture: Picture, box: tuple[int, int, int, int]) -> Picture:
    left, top, right, bottom = box
    pixels = picture.pixels.copy()
    # Red, far from the noise in every channel: grey would leave a normalised patch as it was.
    pixels[top:bottom, left:right] = (255, 0, 0)
    return Picture(pixels, source=f"{picture.source} painted at {box}")


def _score(
    probe_: _Probe,
    moved: Float32[np.ndarray, " keys"],
    views: Sequence[View],
    size: Size,
    report: PaintReport,
) -> None:
    view = views[probe_.view]
    inside = moved[view.positions]
    row, col = divmod(int(inside.argmax()), inside.shape[1])
    where = f"{size[0]} x {size[1]}, {view.name}: painted {probe_.box} for cell"
    if inside.max() <= 1e-3 * moved.max() or moved.max() == 0:
        report.wrong.append(f"{where} {probe_.row},{probe_.col}, but nothing moved in this view")
    elif (row, col) != (probe_.row, probe_.col):
        report.wrong.append(f"{where} {probe_.row},{probe_.col}, but {row},{col} moved most")
        report.beside += max(abs(row - probe_.row), abs(col - probe_.col)) == 1
    else:
        report.right += 1


class _Seen(Exception):  # noqa: N818 - it leaves the forward pass, nothing went wrong
    pass


def embeddings(opened: Harness, inputs: PreparedInputs) -> torch.Tensor:
    """The image features as the language model gets them: sequences x keys x width.

    As the adapter's `image_features` makes them, else what the language model gets as
    `inputs_embeds`.
    """
    known = getattr(opened.adapter, "image_features", None)
    made = known(opened.model, inputs) if known else None
    if made is not None:
        return torch.as_tensor(made).float()
    module: Any = opened.model.module
    kept: list[Any] = []

    def look(_: object, arguments: tuple[Any, ...], named: dict[str, Any]) -> None:
        kept.append(named.get("inputs_embeds", arguments[0] if arguments else None))
        raise _Seen

    handle = opened.decoder.register_forward_pre_hook(look, with_kwargs=True)
    try:
        with torch.no_grad():
            module(**opened.given(inputs).tensors, use_cache=False)
    except _Seen:
        pass
    finally:
        handle.remove()
    if not kept or not torch.is_tensor(kept[0]) or not kept[0].is_floating_point():
        raise ContractError(
            "the language model gets no inputs_embeds; write `image_features` of the adapter"
        )
    features: torch.Tensor = kept[0].float()
    return features


PROJECTIONS = ("out_proj", "o_proj", "proj", "projection_layer", "dense")


def mixers(
    vision: torch.nn.Module, names: Sequence[str] = PROJECTIONS
) -> list[tuple[str, torch.nn.Linear]]:
    """The output projections of a tower's attention, by dotted name."""
    if isinstance(vision, torch.nn.Linear):
        return []  # each patch by itself: nothing mixes
    found = []
    for name, part in vision.named_modules():
        *path, last = name.split(".")
        if last == "linear" and path:
            last = path[-1]  # a projection that wraps its linear layer
        inside = any("attn" in step or "attention" in step for step in path)
        if inside and last in names and isinstance(part, torch.nn.Linear):
            found.append((name, part))
    if not found:
        raise ContractError(
            "no attention output projection was found in the vision tower, so its patches mix; "
            "override `unmix` for this family"
        )
    return found


def unmix(vision: torch.nn.Module, names: Sequence[str] = PROJECTIONS) -> int:
    """Zero the output projections of a tower's attention; returns how many there were."""
    found = mixers(vision, names)
    for _, part in found:
        torch.nn.init.zeros_(part.weight)
        if part.bias is not None:
            torch.nn.init.zeros_(part.bias)
    return len(found)


@contextmanager
def unmixed(vision: torch.nn.Module) -> Iterator[int]:
    """`unmix` for a while: a user's weights come back as they were."""
    parts = mixers(vision)
    kept = [(value, value.data) for _, part in parts for value in part.parameters(recurse=False)]
    try:
        for value, data in kept:
            value.data = torch.zeros_like(data)
        yield len(parts)
    finally:
        for value, data in kept:
            value.data = data
