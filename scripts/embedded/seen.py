"""Maps of the model's heads on a set of samples, and the answers of any subset of heads."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import groupby

import numpy as np

from vg_engine.core.attention.maps import smooth
from vg_engine.core.contract.prompt import Prompt
from vg_engine.core.contract.results import HeadMaps
from vg_engine.core.engine.engine import Engine
from vg_engine.core.evaluation.metrics import iou, pointing
from vg_engine.core.geometry import SoftMap, clip_box, clip_point
from vg_engine.core.heads import Head
from vg_engine.core.readout.regions import GridRegion
from vg_engine.core.selection.head_statistics import measure_heads
from vg_engine.core.selection.ranking import DrawnStatistics
from vg_engine.plugins.datasets.exam import Sample

Read = Callable[[np.ndarray], GridRegion]


@dataclass(frozen=True, eq=False)
class Seen:
    """Maps of all heads for all samples: `smoothed` is (samples, heads, rows, cols) float32."""

    samples: tuple[Sample, ...]
    heads: tuple[Head, ...]
    smoothed: np.ndarray
    grid: SoftMap
    observed: DrawnStatistics

    @property
    def scenes(self) -> list[str]:
        """The picture of each sample."""
        return [sample.scene_id for sample in self.samples]

    def combined(self, heads: Sequence[Head]) -> np.ndarray:
        """The sum of the heads' smoothed maps, (samples, rows, cols) float32."""
        where = [self.heads.index(head) for head in heads]
        return np.asarray(self.smoothed[:, where].sum(axis=1), dtype=np.float32)

    def answers(self, heads: Sequence[Head], region: Read) -> tuple[np.ndarray, np.ndarray]:
        """Per sample, whether the peak lies in the object's mask, and the IoU of the boxes."""
        hits, boxes = [], []
        for sample, values in zip(self.samples, self.combined(heads), strict=True):
            size = (sample.image.shape[1], sample.image.shape[0])
            found = region(values)
            point = clip_point(self.grid.to_original.point(*found.peak), size)
            hits.append(pointing(point, sample.mask))
            boxes.append(clip_box(self.grid.to_original.box(found.box), size))
        truth = np.array([sample.box for sample in self.samples], dtype=np.float64)
        return np.array(hits), np.asarray(iou(np.array(boxes, dtype=np.float64), truth))


def look(engine: Engine, samples: Sequence[Sample], prompt: Prompt) -> Seen:
    """Run the engine over samples, a scene at a time, and keep the maps of every head."""
    smoothed, observed = [], []
    grid: SoftMap | None = None
    heads: tuple[Head, ...] = ()
    for _, group in groupby(samples, key=lambda sample: sample.scene_id):
        scene = list(group)
        maps: Sequence[HeadMaps] = engine.maps(
            scene[0].image, [sample.text for sample in scene], prompt=prompt
        )
        # Two sentences about different things stand together: each is the other's partner.
        partners = [len(scene) - 1 - i if len(scene) == 2 else None for i in range(len(scene))]
        observed.append(measure_heads(maps, partners=partners))
        grid, heads = maps[0].maps, maps[0].heads
        smoothed += [smooth(one.maps.values, 1.0, 7) for one in maps]
    assert grid is not None
    return Seen(
        tuple(samples),
        heads,
        np.stack(smoothed).astype(np.float32),
        grid,
        DrawnStatistics.of(observed),
    )
