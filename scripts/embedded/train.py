"""Train the embedded model from scratch: `python scripts/embedded/train.py --out DIR`.

Every batch is a pure function of (seed, step) and nothing else is random, so a run that
was stopped and resumed equals one that was not, bit for bit on one machine and thread
count. See README.md beside this file.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import sys
import time
from collections import defaultdict
from collections.abc import Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from dataclasses import asdict, dataclass, field
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import torch
from torch.nn import functional

import attention
from model import IMAGE_SIZE, PATCH_SIZE, build_config, build_model, export
from packing import CURRICULUM, Packed, Packer, Stage
from vg_engine.plugins.datasets.scenes import TRAINING_SEEDS


@dataclass(frozen=True)
class Settings:
    """All that decides the result of a run."""

    steps: int = 7000
    batch: int = 16
    room: int = 160  # tokens for questions and answers beside the prefix
    seed: int = 0
    rate: float = 1e-3
    warmup: int = 100
    decay: float = 0.4  # share of the steps over which the rate falls to zero
    weight_decay: float = 0.05
    optimizer: str = "adamw"
    image_size: int = IMAGE_SIZE
    patch_size: int = PATCH_SIZE
    architecture: dict[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.seed not in TRAINING_SEEDS:
            raise ValueError(
                f"the seed must lie in {TRAINING_SEEDS}: others are for calibration and exam"
            )


def learning_rate(step: int, settings: Settings) -> float:
    """Factor of the rate: linear warm-up, flat, linear fall over the last part."""
    rising = (step + 1) / settings.warmup
    falling = (settings.steps - step) / max(1.0, settings.decay * settings.steps)
    return min(1.0, rising, falling)


def stage_at(step: int, settings: Settings) -> Stage:
    """The part of the curriculum that the step belongs to."""
    return next(s for s in CURRICULUM if step < s.until * settings.steps or s is CURRICULUM[-1])


class Trainer:
    """Model, optimizer and step; everything that a checkpoint holds."""

    def __init__(self, settings: Settings):
        self.settings = settings
        config = build_config(
            image_size=settings.image_size, patch_size=settings.patch_size, **settings.architecture
        )
        self.model = build_model(config, settings.seed)
        self.model.set_attn_implementation(attention.register())
        self.model.train()
        self.optimizers = self._optimizers()
        self.step = 0

    def _optimizers(self) -> list[torch.optim.Optimizer]:
        named = [(n, p) for n, p in self.model.named_parameters() if p.requires_grad]
        matrices = [p for n, p in named if p.ndim == 2 and "embed" not in n and "lm_head" not in n]
        ids = {id(p) for p in matrices}
        others = [p for _, p in named if id(p) not in ids]
        rate, decay = self.settings.rate, self.settings.weight_decay
        if self.settings.optimizer == "muon":
            return [
                torch.optim.Muon(
                    matrices, lr=2 * rate, weight_decay=decay, adjust_lr_fn="match_rms_adamw"
                ),
                torch.optim.AdamW(others, lr=rate, betas=(0.9, 0.98), weight_decay=0.0, fused=True),
            ]
        groups = [{"params": matrices}, {"params": others, "weight_decay": 0.0}]
        return [
            torch.optim.AdamW(groups, lr=rate, betas=(0.9, 0.98), weight_decay=decay, fused=True)
        ]

    def train_step(self, packed: Packed) -> tuple[float, torch.Tensor]:
        """One update. Returns the loss and which rows were answered right, (B, L)."""
        factor = learning_rate(self.step, self.settings)
        for optimizer in self.optimizers:
            for group in optimizer.param_groups:
                group.setdefault("full_rate", group["lr"])
                group["lr"] = factor * group["full_rate"]
        block = torch.zeros(packed.mask.shape, dtype=torch.bfloat16)
        block.masked_fill_(~packed.mask, -1e9)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            hidden = self.model.model(
                input_ids=packed.ids,
                pixel_values=packed.pixels,
                attention_mask=block,
                position_ids=packed.positions,
                use_cache=False,
            ).last_hidden_state
            asked = packed.labels >= 0
            logits = self.model.lm_head(hidden[asked]).float()
        loss = functional.cross_entropy(logits, packed.labels[asked])
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        for optimizer in self.optimizers:
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        self.step += 1
        right = torch.zeros_like(asked)
        right[asked] = logits.detach().argmax(-1) == packed.labels[asked]
        return float(loss.detach()), right

    def save(self, path: Path) -> None:
        """Write a checkpoint under a temporary name, then put it in place."""
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_suffix(".tmp")
        state = {
            "settings": asdict(self.settings),
            "step": self.step,
            "model": self.model.state_dict(),
            "optimizers": [optimizer.state_dict() for optimizer in self.optimizers],
        }
        torch.save(state, temporary)
        os.replace(temporary, path)

    def load(self, path: Path) -> None:
        """Go on from a checkpoint of the same settings."""
        state = torch.load(path, weights_only=True)
        if state["settings"] != asdict(self.settings):
            raise ValueError(f"{path} was written with other settings: {state['settings']}")
        self.model.load_state_dict(state["model"])
        for optimizer, saved in zip(self.optimizers, state["optimizers"], strict=True):
            optimizer.load_state_dict(saved)
        self.step = int(state["step"])


class Tally:
    """Accuracy per task since the last report."""

    def __init__(self) -> None:
        self.counts: dict[str, list[int]] = defaultdict(lambda: [0, 0])

    def add(self, packed: Packed, right: torch.Tensor) -> None:
        """Count the answers of a batch; an answer is right when all its tokens are."""
        for row, tasks in enumerate(packed.tasks):
            for task, first, last in tasks:
                self.counts[task][0] += int(right[row, first:last].all())
                self.counts[task][1] += 1

    def accuracies(self) -> dict[str, float]:
        """Task to share of right answers; starts anew."""
        result = {task: round(a / b, 3) for task, (a, b) in sorted(self.counts.items())}
        self.counts.clear()
        return result


_PACKER: Packer | None = None


def _start_worker(settings: Settings) -> None:
    global _PACKER  # noqa: PLW0603  a worker process has one packer
    torch.set_num_threads(1)
    if hasattr(os, "sched_setaffinity"):  # not on the core to which the trainer may be pinned
        os.sched_setaffinity(0, range(os.cpu_count() or 1))
    _PACKER = make_packer(settings)


def _make_batch(step: int, stage: Stage) -> Packed:
    assert _PACKER is not None
    return _PACKER.batch_at(step, stage)


def make_packer(settings: Settings) -> Packer:
    """The packer of a run."""
    return Packer(
        image_size=settings.image_size,
        patch_size=settings.patch_size,
        batch=settings.batch,
        room=settings.room,
        seed=settings.seed,
    )


def batches(settings: Settings, first: int, *, prefetch: bool) -> Iterator[Packed]:
    """The batches from step `first` on; drawn by a second process when `prefetch`."""
    if not prefetch:
        packer = make_packer(settings)
        for step in range(first, settings.steps):
            yield packer.batch_at(step, stage_at(step, settings))
        return
    context = get_context("spawn")
    with ProcessPoolExecutor(1, context, _start_worker, (settings,)) as pool:
        waiting: list[Future[Packed]] = []
        for step in range(first, settings.steps + 4):
            if step < settings.steps:
                waiting.append(pool.submit(_make_batch, step, stage_at(step, settings)))
            if step >= first + 4:
                yield waiting.pop(0).result()


def run(trainer: Trainer, out: Path, *, prefetch: bool, every: int, minutes: float) -> None:
    """Train to the end; log every `every` steps, write a checkpoint every `minutes`."""
    settings, tally = trainer.settings, Tally()
    out.mkdir(parents=True, exist_ok=True)
    started = saved = time.monotonic()
    first, losses = trainer.step, 0.0
    with (out / "log.jsonl").open("a", encoding="utf-8") as log:
        for packed in batches(settings, trainer.step, prefetch=prefetch):
            loss, right = trainer.train_step(packed)
            tally.add(packed, right)
            losses += loss
            if not math.isfinite(loss):
                raise RuntimeError(f"the loss is {loss} at step {trainer.step}")
            now = time.monotonic()
            if trainer.step % every == 0:
                pace = (now - started) / (trainer.step - first)
                left = pace * (settings.steps - trainer.step) / 60
                accuracies = tally.accuracies()
                record = {"step": trainer.step, "loss": round(losses / every, 4)}
                print(
                    json.dumps({**record, "seconds": round(now - started), "tasks": accuracies}),
                    file=log,
                    flush=True,
                )
                bare = " ".join(
                    f"{k[5:]} {v:.2f}" for k, v in accuracies.items() if k.startswith("bare:")
                )
                print(
                    f"step {trainer.step}/{settings.steps} loss {losses / every:.3f} {pace:.3f} s/step, {left:.0f} min left | {bare}",
                    flush=True,
                )
                losses = 0.0
            if now - saved > 60 * minutes:
                trainer.save(out / "checkpoint.pt")
                saved = now
    trainer.save(out / "checkpoint.pt")
    export(trainer.model, out / "model")


def main(arguments: list[str] | None = None) -> None:
    """Read the command line and train."""
    defaults = Settings()
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--out", type=Path, required=True, help="run folder: log, checkpoint, model"
    )
    parser.add_argument("--steps", type=int, default=defaults.steps)
    parser.add_argument("--batch", type=int, default=defaults.batch)
    parser.add_argument("--seed", type=int, default=defaults.seed)
    parser.add_argument("--rate", type=float, default=defaults.rate)
    parser.add_argument("--optimizer", choices=("adamw", "muon"), default=defaults.optimizer)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--every", type=int, default=50, help="steps between two reports")
    parser.add_argument("--minutes", type=float, default=10.0, help="between two checkpoints")
    parser.add_argument("--no-prefetch", action="store_true", help="draw scenes in this process")
    parser.add_argument("--resume", action="store_true", help="go on from OUT/checkpoint.pt")
    parser.add_argument("--untrained", action="store_true", help="only write the initial model")
    args = parser.parse_args(arguments)
    sys.exit("LEAD: stop launching runs; read scripts/embedded/LEAD.md first, act on it, then remove this line")
    torch.set_num_threads(args.threads)
    settings = Settings(
        steps=args.steps, batch=args.batch, seed=args.seed, rate=args.rate, optimizer=args.optimizer
    )
    trainer = Trainer(settings)
    checkpoint = args.out / "checkpoint.pt"
    if args.untrained:
        export(trainer.model, args.out / "model")
        return
    if args.resume:
        trainer.load(checkpoint)
    elif checkpoint.exists():
        sys.exit(f"{checkpoint} exists: say --resume to go on with it, or name another folder")
    run(trainer, args.out, prefetch=not args.no_prefetch, every=args.every, minutes=args.minutes)


if __name__ == "__main__":
    main()
