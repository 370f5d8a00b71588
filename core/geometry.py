"""Geometry: the only module where a coordinate changes its frame.

*original*: the upright picture, float pixels, x right, y down, pixel (0, 0) spans [0, 1) x [0, 1).
*canvas*: the image processor's version of it: squashed, padded, cropped, cut into tiles.
*grid*: one unit is one cell of image tokens; cell (row r, column c) spans [c, c + 1) x [r, r + 1).

An adapter states what its processor did, step by step, and gets the view back:

>>> import numpy as np
>>> frame = Frame.of(640, 480).resize(448.0, 336.0)
>>> frame = frame.crop(56.0, 0.0, 336.0, 336.0)   # a centre crop
>>> view = frame.view(np.arange(576).reshape(24, 24))
>>> view.to_original.box((0.0, 0.0, 24.0, 24.0))   # the ends of the picture are invisible
(80.0, 0.0, 560.0, 480.0)
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Float32, Float64, Int64

from vg_engine.core.contract.frozen import Rebuilt
from vg_engine.core.errors import InputError

Box = tuple[float, float, float, float]


@dataclass(frozen=True)
class Affine:
    """Grid to original pixels, per axis: `original = offset + scale * grid`; both are (x, y)."""

    scale: tuple[float, float]
    offset: tuple[float, float]

    def __post_init__(self) -> None:
        if not all(np.isfinite((*self.scale, *self.offset))) or min(self.scale) <= 0:
            raise InputError(f"a view needs finite, positive scales, got {self}")

    def point(self, x: float, y: float) -> tuple[float, float]:
        """Convert a point of the grid to original pixels."""
        return self.offset[0] + self.scale[0] * x, self.offset[1] + self.scale[1] * y

    def inverse_point(self, x: float, y: float) -> tuple[float, float]:
        """Convert a point of the original to grid units."""
        return (x - self.offset[0]) / self.scale[0], (y - self.offset[1]) / self.scale[1]

    def box(self, box: Box) -> Box:
        """Convert an xyxy box of the grid to original pixels, not clipped."""
        return (*self.point(box[0], box[1]), *self.point(box[2], box[3]))

    def inverse_box(self, box: Box) -> Box:
        """Convert an xyxy box of the original to grid units, not clipped."""
        return (*self.inverse_point(box[0], box[1]), *self.inverse_point(box[2], box[3]))


@dataclass(frozen=True, eq=False)
class View:
    """A grid of image tokens and where its cells lie in the original picture.

    Attributes:
        positions: index of each cell's token on the *key* axis of the layers that are read.
        to_original: grid units to original pixels. Cells may lie outside the picture (padding),
            and parts of the picture may lie outside all cells (cropped away).
        name: for messages and plots (`tile 0,1`, `thumbnail`).
    """

    positions: Int64[np.ndarray, "rows cols"]
    to_original: Affine
    name: str = "picture"

    def __post_init__(self) -> None:
        if self.positions.ndim != 2 or 0 in self.positions.shape:
            raise InputError(f"view {self.name!r}: positions must be a grid")
        if self.positions.min() < 0:
            raise InputError(f"view {self.name!r}: negative key positions")

    @property
    def shape(self) -> tuple[int, int]:
        """(rows, columns)."""
        rows, cols = self.positions.shape
        return rows, cols

    @property
    def extent(self) -> Box:
        """The extent of the grid, xyxy in original pixels."""
        rows, cols = self.shape
        return self.to_original.box((0.0, 0.0, float(cols), float(rows)))

    def shifted(self, by: int) -> View:
        """Move the tokens `by` positions along the key axis, for another padding or packing."""
        return View(self.positions + by, self.to_original, self.name)


@dataclass(frozen=True)
class Frame:
    """A canvas on its way through an image processor: `canvas = original * scale + offset`.

    Attributes:
        width, height: current size of the canvas, in its own pixels.
        scale, offset: (x, y) in the equation above.
    """

    width: float
    height: float
    scale: tuple[float, float] = (1.0, 1.0)
    offset: tuple[float, float] = (0.0, 0.0)

    @classmethod
    def of(cls, width: int, height: int) -> Frame:
        """Start from the original picture, size in pixels."""
        return cls(float(width), float(height))

    def resize(self, width: float, height: float) -> Frame:
        """Squash or stretch the whole canvas to a new size in pixels."""
        fx, fy = width / self.width, height / self.height
        return Frame(
            width,
            height,
            (self.scale[0] * fx, self.scale[1] * fy),
            (self.offset[0] * fx, self.offset[1] * fy),
        )

    def crop(self, left: float, top: float, width: float, height: float) -> Frame:
        """Cut a window out; a negative corner or a larger size pads."""
        return Frame(width, height, self.scale, (self.offset[0] - left, self.offset[1] - top))

    def pad(self, left: float, top: float, right: float, bottom: float) -> Frame:
        """Add borders."""
        return self.crop(-left, -top, self.width + left + right, self.height + top + bottom)

    def view(self, positions: Int64[np.ndarray, "rows cols"], name: str = "picture") -> View:
        """Return the view whose cells divide this canvas evenly."""
        rows, cols = positions.shape
        cell = (self.width / cols, self.height / rows)
        return View(
            np.ascontiguousarray(positions, dtype=np.int64),
            Affine(
                (cell[0] / self.scale[0], cell[1] / self.scale[1]),
                (-self.offset[0] / self.scale[0], -self.offset[1] / self.scale[1]),
            ),
            name,
        )


@dataclass(frozen=True, eq=False)
class SoftMap(Rebuilt):
    """Maps on one grid, with the grid's place in the original picture.

    Attributes:
        values: float32, rows x columns, or heads x rows x columns; not negative.
        to_original: grid units to original pixels.
    """

    values: Float32[np.ndarray, "*heads rows cols"]
    to_original: Affine

    def __post_init__(self) -> None:
        values = np.array(self.values, dtype=np.float32)
        values.setflags(write=False)
        object.__setattr__(self, "values", values)

    @property
    def shape(self) -> tuple[int, int]:
        """(rows, columns)."""
        rows, cols = self.values.shape[-2:]
        return rows, cols

    def with_values(self, values: Float32[np.ndarray, "*heads rows cols"]) -> SoftMap:
        """Replace the values, on the same grid."""
        if values.shape[-2:] != self.values.shape[-2:]:
            raise InputError(f"expected a grid of {self.shape}, got {values.shape[-2:]}")
        return SoftMap(values, self.to_original)

    def peak(self, size: tuple[int, int]) -> tuple[float, float]:
        """Find the middle of one map's highest cell: (x, y) in original pixels, inside `size`."""
        row, col = divmod(int(self.values.argmax()), self.shape[1])
        return clip_point(self.to_original.point(col + 0.5, row + 0.5), size)

    def inside(self, size: tuple[int, int]) -> SoftMap:
        """Keep only the cells that show a part of the picture of `size` = (width, height).

        Padding is no place for an answer, so regions are read on these cells.
        """
        rows, cols = self.shape
        left, top, right, bottom = self.to_original.inverse_box(
            (0.0, 0.0, float(size[0]), float(size[1]))
        )
        # An overlap below 1e-6 of a cell is rounding, not picture.
        first = (max(0, int(np.floor(left + 1e-6))), max(0, int(np.floor(top + 1e-6))))
        last = (min(cols, int(np.ceil(right - 1e-6))), min(rows, int(np.ceil(bottom - 1e-6))))
        if first[0] >= last[0] or first[1] >= last[1]:
            raise InputError(f"no cell of the {rows} x {cols} grid shows the picture of {size}")
        values = self.values[..., first[1] : last[1], first[0] : last[0]]
        return SoftMap(
            values,
            Affine(self.to_original.scale, self.to_original.point(*map(float, first))),
        )

    def render(self, size: tuple[int, int]) -> Float32[np.ndarray, "height width"]:
        """Render one map bilinearly at the picture's size, scaled to a maximum of 1 (0 = unseen).

        Raises:
            InputError: there is more than one map.
        """
        if self.values.ndim != 2:
            raise InputError(f"render takes one map, this holds {self.values.shape}")
        (width, height), (rows, cols) = size, self.shape
        across, down = self._axis(0, width, cols), self._axis(1, height, rows)
        image = down @ self.values @ across.T
        top = image.max(initial=0.0)
        return np.asarray(image / top if top > 0 else image, dtype=np.float32)

    def _axis(self, axis: int, pixels: int, cells: int) -> Float32[np.ndarray, "pixels cells"]:
        """Compute linear interpolation weights between cell centres; rows of zeros where unseen."""
        offset, scale = self.to_original.offset[axis], self.to_original.scale[axis]
        grid = (np.arange(pixels) + 0.5 - offset) / scale
        seen = (grid >= 0) & (grid < cells)
        centre = np.clip(grid - 0.5, 0, cells - 1)
        low = np.floor(centre).astype(np.int64)
        high = np.minimum(low + 1, cells - 1)
        share = centre - low
        weights = np.zeros((pixels, cells), dtype=np.float32)
        lines = np.arange(pixels)
        np.add.at(weights, (lines, low), (1 - share) * seen)
        np.add.at(weights, (lines, high), share * seen)
        return weights


def clip_box(box: Box, size: tuple[int, int]) -> Box:
    """Cut an xyxy box to the picture of `size` = (width, height), original pixels.

    Raises:
        InputError: no part of it lies inside.
    """
    width, height = size
    left, right = max(0.0, box[0]), min(float(width), box[2])
    top, bottom = max(0.0, box[1]), min(float(height), box[3])
    if left >= right or top >= bottom:
        raise InputError(f"box {box} lies outside the picture of {width} x {height}")
    return left, top, right, bottom


def clip_point(point: tuple[float, float], size: tuple[int, int]) -> tuple[float, float]:
    """Move a point into the picture, at least half a pixel from its far edges."""
    return (
        min(max(point[0], 0.0), size[0] - 0.5),
        min(max(point[1], 0.0), size[1] - 0.5),
    )


def cell_box(grid: SoftMap, point: tuple[float, float], size: tuple[int, int]) -> Box:
    """Find the cell that holds a point of the original, as a box there, cut to the picture."""
    rows, cols = grid.shape
    x, y = grid.to_original.inverse_point(*point)
    col, row = min(max(int(x), 0), cols - 1), min(max(int(y), 0), rows - 1)
    return clip_box(
        grid.to_original.box((float(col), float(row), float(col + 1), float(row + 1))), size
    )


def hidden_share(views: Sequence[View], size: tuple[int, int]) -> float:
    """Compute the share of the picture of `size` = (width, height) outside all views' extent."""
    extents = np.array([view.extent for view in views])
    low = np.maximum(extents[:, :2].min(0), 0.0)
    high = np.minimum(extents[:, 2:].max(0), np.array(size, dtype=np.float64))
    shown = np.prod(np.clip(high - low, 0.0, None))
    return float(1.0 - shown / (size[0] * size[1]))


def mask_to_original(
    raster: Bool[np.ndarray, "fine_rows fine_cols"],
    shape: tuple[int, int],
    to_original: Affine,
    size: tuple[int, int],
) -> Bool[np.ndarray, "height width"]:
    """Paint a mask into the original picture: each pixel takes the raster cell at its centre.

    Args:
        raster: a mask over the whole grid, at any resolution.
        shape: (rows, columns) of the grid that the raster spans.
        to_original: grid units to original pixels.
        size: (width, height) of the original picture.
    """
    lines, line_seen = _nearest(raster.shape[0], shape[0], to_original, 1, size[1])
    columns, column_seen = _nearest(raster.shape[1], shape[1], to_original, 0, size[0])
    painted: Bool[np.ndarray, "height width"] = raster[lines][:, columns]
    painted &= line_seen[:, None]
    painted &= column_seen[None, :]
    return painted


def _nearest(
    fine: int, cells: int, to_original: Affine, axis: int, pixels: int
) -> tuple[np.ndarray, np.ndarray]:
    grid = (np.arange(pixels) + 0.5 - to_original.offset[axis]) / to_original.scale[axis]
    index = np.floor(grid * (fine / cells)).astype(np.int64)
    return np.clip(index, 0, fine - 1), (index >= 0) & (index < fine)


def fuse(
    views: Sequence[View], maps: Sequence[Float32[np.ndarray, "heads _rows _cols"]]
) -> SoftMap:
    """Fuse several views of one picture into one grid at the resolution of the finest view.

    A cell's mass is spread evenly over the area it shows. Where views overlap, their densities are
    averaged, weighted by how densely each is sampled (cells per original pixel). A single view is
    returned unchanged, padding included.

    Args:
        views: at least one.
        maps: per view its maps, heads x rows x columns.
    """
    if not views or len(views) != len(maps):
        raise InputError(f"{len(views)} views but {len(maps)} maps")
    for view, values in zip(views, maps, strict=True):
        if values.shape[1:] != view.shape:
            raise InputError(f"view {view.name!r} is {view.shape}, its maps are {values.shape[1:]}")
    if len(views) == 1:
        return SoftMap(maps[0], views[0].to_original)
    canvas, (rows, cols) = _finest_grid(views)
    area = canvas.scale[0] * canvas.scale[1]
    mass = np.zeros((maps[0].shape[0], rows, cols))
    cover = np.zeros((rows, cols))
    for view, values in zip(views, maps, strict=True):
        cell = view.to_original.scale[0] * view.to_original.scale[1]
        down = _overlap(canvas, rows, view.to_original, view.shape[0], 1)
        across = _overlap(canvas, cols, view.to_original, view.shape[1], 0)
        density = 1.0 / cell
        mass += density * (down @ (values.astype(np.float64) / cell) @ across.T)
        cover += density * np.outer(down.sum(1), across.sum(1)) / area
    # Cells that no view shows stay 0; a cover below 1e-9 is rounding.
    fused = np.divide(mass, cover, out=np.zeros_like(mass), where=cover > 1e-9 / area)
    return SoftMap(_round_bits(fused).astype(np.float32), canvas)


def _round_bits(
    values: Float64[np.ndarray, "heads rows cols"],
) -> Float64[np.ndarray, "heads rows cols"]:
    """Round to 40 significant bits, so that values that differ by rounding alone become equal."""
    parts, exponents = np.frexp(values)
    return np.asarray(np.ldexp(np.round(np.ldexp(parts, 40)), exponents - 40))


def _finest_grid(views: Sequence[View]) -> tuple[Affine, tuple[int, int]]:
    extents = np.array([view.extent for view in views])
    left, top = extents[:, :2].min(0)
    right, bottom = extents[:, 2:].max(0)
    finest = min(views, key=lambda view: view.to_original.scale[0] * view.to_original.scale[1])
    cols = max(1, round((right - left) / finest.to_original.scale[0]))
    rows = max(1, round((bottom - top) / finest.to_original.scale[1]))
    scale = (float((right - left) / cols), float((bottom - top) / rows))
    return Affine(scale, (float(left), float(top))), (rows, cols)


def _overlap(
    canvas: Affine, cells: int, view: Affine, view_cells: int, axis: int
) -> Float64[np.ndarray, "cells view_cells"]:
    """Compute the length in original pixels that each canvas cell shares with each view cell."""
    a = canvas.offset[axis] + canvas.scale[axis] * np.arange(cells + 1)
    b = view.offset[axis] + view.scale[axis] * np.arange(view_cells + 1)
    low = np.maximum(a[:-1, None], b[None, :-1])
    high = np.minimum(a[1:, None], b[None, 1:])
    shared: Float[np.ndarray, "cells view_cells"] = np.clip(high - low, 0.0, None)
    return shared


def share_inside(maps: SoftMap, boxes: Float[np.ndarray, "n 4"]) -> Float64[np.ndarray, " heads"]:
    """Compute the share of each map's mass inside the union of boxes, xyxy in original pixels.

    A cell counts by the part of it that is covered. A map without mass has 0.
    """
    covered = _covered(maps, boxes)
    values = maps.values.astype(np.float64)
    total = values.sum(axis=(-2, -1))
    inside = (values * covered).sum(axis=(-2, -1))
    return np.asarray(np.divide(inside, total, out=np.zeros_like(total), where=total > 0))


def _covered(maps: SoftMap, boxes: Float[np.ndarray, "n 4"]) -> Float64[np.ndarray, "rows cols"]:
    """Compute the part of each cell that the boxes cover, on a raster of all edges of both."""
    rows, cols = maps.shape
    whole = [maps.to_original.inverse_box((a, b, c, d)) for a, b, c, d in boxes.tolist()]
    grid = np.clip(np.array(whole).reshape(-1, 4), 0.0, np.array([cols, rows, cols, rows]))
    across = np.unique(np.concatenate([np.arange(cols + 1.0), grid[:, 0], grid[:, 2]]))
    down = np.unique(np.concatenate([np.arange(rows + 1.0), grid[:, 1], grid[:, 3]]))
    painted = np.zeros((len(down) - 1, len(across) - 1))
    for left, top, right, bottom in grid:
        inside_x = (across[:-1] >= left) & (across[1:] <= right)
        inside_y = (down[:-1] >= top) & (down[1:] <= bottom)
        painted[np.ix_(inside_y, inside_x)] = 1.0
    painted *= np.outer(np.diff(down), np.diff(across))
    lines, columns = down[:-1].astype(np.int64), across[:-1].astype(np.int64)
    covered = np.zeros((rows, cols))
    np.add.at(covered, (lines[:, None], columns[None, :]), painted)
    return covered
