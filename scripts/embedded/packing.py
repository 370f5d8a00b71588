"""Many questions about one picture in one sequence.

The prefix (system sentence and picture) comes once; every question follows it under a
block mask and with its own position ids, so that it sees exactly what it would see
alone. Batches are pure functions of (seed, step): training can stop and go on anywhere.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image
from questions import Question, SceneQuestions, text_question
from tower import word_targets
from vocabulary import BOS, EOS, IMAGE, PAD, SYSTEM, build_vocabulary, split_words

from vg_engine.plugins.datasets.scenes import (
    KINDS,
    MAX_OBJECTS,
    MIN_OBJECTS,
    SIDE,
    Kind,
    draw,
    sample_layout,
)

_MEAN = np.array([0.48145466, 0.4578275, 0.40821073], dtype=np.float32)
_STD = np.array([0.26862954, 0.26130258, 0.27577711], dtype=np.float32)


TOWER_STREAM = 1  # keeps the pictures of the tower's lesson apart from those of the questions


@dataclass(frozen=True)
class Stage:
    """A part of the curriculum.

    Until which share of the steps, how many objects, which kinds of expressions, and the
    share of the questions that are about text alone. Text is learnt at once and would
    drown the first, faint signal that comes through the picture.
    """

    until: float
    objects: tuple[int, int]
    kinds: tuple[Kind, ...]
    text_share: float


# Shares of the steps that follow the tower's own lesson.
CURRICULUM = (
    Stage(0.07, (2, 3), ("colour",), 0.05),
    Stage(0.14, (2, 3), ("colour", "shape", "colour+shape"), 0.15),
    Stage(0.24, (2, 4), KINDS, 0.35),
    Stage(1.00, (2, 6), KINDS, 0.35),
)


@dataclass(frozen=True)
class Packed:
    """One batch: pixels (B, 3, S, S), mask (B, 1, L, L) with true = seen, the rest (B, L)."""

    pixels: torch.Tensor
    ids: torch.Tensor
    positions: torch.Tensor
    mask: torch.Tensor
    labels: torch.Tensor  # the next token where it is part of an answer, else -100
    tasks: list[list[tuple[str, int, int]]]  # per picture: task, first and last row of its answer
    words: torch.Tensor  # (B, 9, words): which words apply at each place


class Packer:
    """Builds batches for one image size; keeps the vocabulary and the prefixes."""

    def __init__(self, *, image_size: int, patch_size: int, batch: int, room: int, seed: int):
        self.image_size, self.batch, self.seed = image_size, batch, seed
        self.vocabulary = build_vocabulary()
        cells = (image_size // patch_size) ** 2
        system = self.encode(SYSTEM)
        self.prefixes = {
            True: [BOS, *system, *self.encode("USER:"), *[IMAGE] * cells],
            False: [BOS, *system, *[IMAGE] * cells],
        }
        self.length = (len(self.prefixes[True]) + room + 15) // 16 * 16

    def encode(self, text: str) -> list[int]:
        """Token ids without special tokens; every word must be known."""
        return [self.vocabulary[word] for word in split_words(text)]

    def pixels(self, image: np.ndarray) -> np.ndarray:
        """(3, S, S) float32: resized and normalised as the processor does it."""
        size = (self.image_size, self.image_size)
        small = Image.fromarray(image).resize(size, Image.Resampling.BICUBIC)
        scaled = (np.asarray(small, dtype=np.float32) / np.float32(255) - _MEAN) / _STD
        return np.ascontiguousarray(scaled.transpose(2, 0, 1))

    def batch_at(self, step: int, stage: Stage) -> Packed:
        """The batch of one training step."""
        rows = []
        for slot in range(self.batch):
            rng = np.random.default_rng([self.seed, step * self.batch + slot])
            layout = sample_layout(rng, int(rng.integers(stage.objects[0], stage.objects[1] + 1)))
            scene = draw(layout, rng)
            about = SceneQuestions(layout, SIDE, stage.kinds, rng)
            asked = self._ask(about, stage.text_share, rng)
            packed = self._pack(asked, chat=bool(rng.integers(2)))
            rows.append((self.pixels(scene.image), *packed, word_targets(layout, SIDE)))
        return Packed(
            torch.from_numpy(np.stack([row[0] for row in rows])),
            torch.from_numpy(np.stack([row[1] for row in rows])),
            torch.from_numpy(np.stack([row[2] for row in rows])),
            torch.from_numpy(np.stack([row[3] for row in rows]))[:, None],
            torch.from_numpy(np.stack([row[4] for row in rows])),
            [row[5] for row in rows],
            torch.from_numpy(np.stack([row[6] for row in rows])),
        )

    def pictures_at(self, step: int, count: int) -> Packed:
        """The batch of one step of the tower's lesson: pictures and words, no questions."""
        pixels, words = [], []
        for slot in range(count):
            rng = np.random.default_rng([self.seed, TOWER_STREAM, step * count + slot])
            layout = sample_layout(rng, int(rng.integers(MIN_OBJECTS, MAX_OBJECTS + 1)))
            pixels.append(self.pixels(draw(layout, rng).image))
            words.append(word_targets(layout, SIDE))
        none = torch.zeros((count, 0), dtype=torch.int64)
        return Packed(
            torch.from_numpy(np.stack(pixels)),
            none,
            none,
            torch.zeros((count, 1, 0, 0), dtype=torch.bool),
            none,
            [[] for _ in range(count)],
            torch.from_numpy(np.stack(words)),
        )

    def _ask(
        self, about: SceneQuestions, text_share: float, rng: np.random.Generator
    ) -> list[Question]:
        """More questions than there is room for, no two alike."""
        asked: dict[str, Question] = {}
        for _ in range(26):
            drawn = text_question(rng) if rng.random() < text_share else about.draw()
            if drawn is not None:
                asked.setdefault(drawn.text, drawn)
        return list(asked.values())

    def _pack(
        self, asked: Sequence[Question], *, chat: bool
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, list[tuple[str, int, int]]]:
        prefix = self.prefixes[chat]
        length, start = self.length, len(prefix)
        ids = np.full(length, PAD, dtype=np.int64)
        positions = np.zeros(length, dtype=np.int64)
        labels = np.full(length, -100, dtype=np.int64)
        ids[:start], positions[:start] = prefix, np.arange(start)
        owner = np.full(length, -1)
        owner[:start] = 0
        tasks: list[tuple[str, int, int]] = []
        cursor = start
        for number, question in enumerate(asked, start=1):
            words = self.encode(question.text) + (self.encode("ASSISTANT:") if chat else [])
            answer = [*self.encode(question.answer), EOS]
            count = len(words) + len(answer)
            if cursor + count - 1 > length:
                continue
            # The end mark is never an input: nothing follows it.
            ids[cursor : cursor + count - 1] = (words + answer)[:-1]
            positions[cursor : cursor + count - 1] = np.arange(start, start + count - 1)
            owner[cursor : cursor + count - 1] = number
            first = cursor + len(words) - 1
            labels[first : first + len(answer)] = answer
            tasks.append((question.task, first, first + len(answer)))
            cursor += count - 1
        same = (owner[:, None] == owner[None, :]) | ((owner[None, :] == 0) & (owner[:, None] > 0))
        mask = np.tril(same)
        np.fill_diagonal(mask, val=True)  # padding sees itself: a row of nothing is not a number
        return ids, positions, mask, labels, tasks
