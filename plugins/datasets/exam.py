"""The exam and the calibration scenes: fixed before the embedded model was trained.

Each scene carries two expressions of different kinds about different objects. The
kinds go round, so that every ten samples hold two of each. Nothing here may change
once a model has been trained: `digest` of the exam is pinned by a test.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, UInt8

from vg_engine.plugins.datasets.scenes import (
    CALIBRATION_SEEDS,
    EXAM_SEEDS,
    KINDS,
    MAX_OBJECTS,
    MIN_OBJECTS,
    Expression,
    Kind,
    Scene,
    draw,
    expressions,
    sample_layout,
    shares_attribute,
)

EXAM_SIZE = 600
_PER_SCENE = 2


@dataclass(frozen=True)
class Sample:
    """One question to the engine and its truth.

    `text` has no full stop; `box` is xyxy in pixels, right and bottom exclusive;
    samples of one scene share `scene_id` and, bit for bit, the picture.
    """

    scene_id: str
    image: UInt8[np.ndarray, "height width 3"]
    text: str
    kind: Kind
    target: int
    box: tuple[float, float, float, float]
    mask: Bool[np.ndarray, "height width"]
    scene: Scene


def _scene_with(
    seed: int, index: int, kinds: tuple[Kind, Kind]
) -> tuple[Scene, tuple[Expression, Expression]]:
    """A scene and one expression of each wanted kind, about different objects.

    The number of objects is drawn once, so that redrawing does not favour easy
    counts. Every target has a distractor that shares a word with it.
    """
    rng = np.random.default_rng([seed, index])
    count = int(rng.integers(MIN_OBJECTS, MAX_OBJECTS + 1))
    while True:
        layout = sample_layout(rng, count)
        fitting = [e for e in expressions(layout) if shares_attribute(layout, e.target, e.kind)]
        pairs = [
            (first, second)
            for first in fitting
            for second in fitting
            if (first.kind, second.kind) == kinds and first.target != second.target
        ]
        if pairs:
            chosen = pairs[int(rng.integers(len(pairs)))]
            return draw(layout, rng), chosen


def scene_samples(seed: int, name: str, index: int) -> tuple[Sample, Sample]:
    """The two samples of one scene, drawn anew: a pure function of its arguments.

    `index` counts the scenes of the stream `seed`; `name` begins their `scene_id`.
    """
    position = index * _PER_SCENE
    kinds = (KINDS[position % len(KINDS)], KINDS[(position + 1) % len(KINDS)])
    scene, (first, second) = _scene_with(seed, index, kinds)
    scene_id = f"{name}-{index:05d}"
    return _sample(scene_id, scene, first), _sample(scene_id, scene, second)


def _sample(scene_id: str, scene: Scene, expression: Expression) -> Sample:
    thing = scene.objects[expression.target]
    return Sample(
        scene_id,
        scene.image,
        expression.text,
        expression.kind,
        expression.target,
        thing.box,
        thing.mask,
        scene,
    )


def _samples(seed: int, name: str, count: int) -> tuple[Sample, ...]:
    scenes = range((count + _PER_SCENE - 1) // _PER_SCENE)
    return tuple(each for index in scenes for each in scene_samples(seed, name, index))[:count]


def exam() -> tuple[Sample, ...]:
    """The 600 expressions (120 of each kind) on 300 held-out scenes."""
    return _samples(EXAM_SEEDS[0], "exam", EXAM_SIZE)


def calibration(count: int, *, draw_number: int = 0) -> tuple[Sample, ...]:
    """`count` samples like the exam's on other scenes; another `draw_number` gives other scenes."""
    return _samples(CALIBRATION_SEEDS[draw_number], "calibration", count)


def digest(samples: Iterable[Sample]) -> str:
    """SHA-256 over pictures, texts, boxes and masks, in order."""
    state = hashlib.sha256()
    for sample in samples:
        state.update(sample.image.tobytes())
        state.update(f"{sample.scene_id}|{sample.kind}|{sample.text}|{sample.box}".encode())
        state.update(np.packbits(sample.mask).tobytes())
    return state.hexdigest()
