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

import attention
import torch
from model import IMAGE_SIZE, PATCH_SIZE, build_config, build_model, export
from packing import CURRICULUM, Packed, Packer, Stage
from torch.nn import functional
from tower import PlaceWords, words_loss, words_right

from vg_engine.plugins.datasets.scenes import TRAINING_SEEDS


@dataclass(frozen=True)
class Settings:
    """All that decides the result of a run."""

    tower_steps: int = 1300  # of the tower's own lesson, before the first question
    tower_batch: int = 32
    tower_rate: float = 2e-3
    words_weight: float = 0.5  # of the tower's loss beside the answers'
    steps: int = 5800  # with questions
    batch: int = 16
    room: int = 160  # tokens for questions and answers beside the prefix
    seed: int = 0
    rate: float = 1e-3
    warmup: int = 100
    decay: float = 0.4  # share of the steps over which the rate falls to zero
    weight_decay: float = 0.05
    optimizer: str = "muon"
    image_size: int = IMAGE_SIZE
    patch_size: int = PATCH_SIZE
    architecture: dict[str, int] = field(default_factory=dict)

    @property
    def all_steps(self) -> int:
        """The steps of both lessons."""
        return self.tower_steps + self.steps

    def __post_init__(self) -> None:
        if self.seed not in TRAINING_SEEDS:
            raise ValueError(
                f"the seed must lie in {TRAINING_SEEDS}: others are for calibration and exam"
            )


def learning_rate(step: int, settings: Settings) -> float:
    """Factor of the rate: in both lessons linear warm-up, flat, linear fall over the last part."""
    factor = 1.0
    if step < settings.tower_steps:
        factor, length, decay = settings.tower_rate / settings.rate, settings.tower_steps, 0.3
    else:
        step, length, decay = step - settings.tower_steps, settings.steps, settings.decay
    rising = (step + 1) / settings.warmup
    falling = (length - step) / max(1.0, decay * length)
    return factor * min(1.0, rising, falling)


def stage_at(step: int, settings: Settings) -> Stage | None:
    """The part of the curriculum that the step belongs to; None in the tower's own lesson."""
    share = (step - settings.tower_steps) / settings.steps
    if share < 0:
        return None
    return next(stage for stage in CURRICULUM if share < stage.until)


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
        vision = config.vision_config
        self.words = PlaceWords(vision.image_size // vision.patch_size, vision.hidden_size)
        self.seen_words: tuple[torch.Tensor, torch.Tensor] | None = None
        self.lessons = (self._first_optimizers(), self._second_optimizers())
        self.step = 0

    def _first_optimizers(self) -> list[torch.optim.Optimizer]:
        """Of the tower's own lesson."""
        named = [*self.model.model.vision_tower.named_parameters(), *self.words.named_parameters()]
        return [self._adamw([(n, p) for n, p in named if p.requires_grad])]

    def _second_optimizers(self) -> list[torch.optim.Optimizer]:
        """Of the questions: Muon for the matrices of the layers where it is asked for."""
        named = [(n, p) for n, p in self.model.named_parameters() if p.requires_grad]
        named += [(f"words_embed.{n}", p) for n, p in self.words.named_parameters()]
        if self.settings.optimizer == "adamw":
            return [self._adamw(named)]
        matrices = [p for n, p in named if self._in_layer(n, p)]
        muon = torch.optim.Muon(
            matrices,
            lr=2 * self.settings.rate,
            weight_decay=self.settings.weight_decay,
            adjust_lr_fn="match_rms_adamw",
        )
        others = [(n, p) for n, p in named if not self._in_layer(n, p)]
        return [muon, self._adamw(others)]

    def _adamw(self, named: list[tuple[str, torch.nn.Parameter]]) -> torch.optim.AdamW:
        groups = [
            {"params": [p for n, p in named if self._in_layer(n, p)]},
            {"params": [p for n, p in named if not self._in_layer(n, p)], "weight_decay": 0.0},
        ]
        return torch.optim.AdamW(
            [group for group in groups if group["params"]],
            lr=self.settings.rate,
            betas=(0.9, 0.98),
            weight_decay=self.settings.weight_decay,
            fused=True,
        )

    @staticmethod
    def _in_layer(name: str, parameter: torch.nn.Parameter) -> bool:
        return parameter.ndim == 2 and "embed" not in name and "lm_head" not in name

    @property
    def optimizers(self) -> list[torch.optim.Optimizer]:
        """Those of the lesson that the next step belongs to."""
        return self.lessons[int(self.step >= self.settings.tower_steps)]

    def train_step(self, packed: Packed) -> tuple[float, torch.Tensor]:
        """One update. Returns the loss and which rows were answered right, (B, L)."""
        factor = learning_rate(self.step, self.settings)
        optimizers = self.optimizers
        for optimizer in optimizers:
            for group in optimizer.param_groups:
                group.setdefault("full_rate", group["lr"])
                group["lr"] = factor * group["full_rate"]
        loss, right = self._loss(packed)
        loss.backward()
        torch.nn.utils.clip_grad_norm_([*self.model.parameters(), *self.words.parameters()], 1.0)
        for optimizer in optimizers:
            optimizer.step()
        self.model.zero_grad(set_to_none=True)
        self.words.zero_grad(set_to_none=True)
        self.step += 1
        return float(loss.detach()), right

    def _loss(self, packed: Packed) -> tuple[torch.Tensor, torch.Tensor]:
        with torch.autocast("cpu", dtype=torch.bfloat16):
            if packed.ids.shape[1] == 0:
                logits = self.words(self._tower(packed.pixels))
                self.seen_words = (logits.detach(), packed.words)
                return words_loss(logits, packed.words), packed.labels >= 0
            block = torch.zeros(packed.mask.shape, dtype=torch.bfloat16)
            block.masked_fill_(~packed.mask, -1e9)
            features = self._tower(packed.pixels)
            embedded = self.model.get_input_embeddings()(packed.ids)
            image = self.model.model.multi_modal_projector(features).to(embedded.dtype)
            places = (packed.ids == self.model.config.image_token_id)[..., None]
            hidden = self.model.model.language_model(
                inputs_embeds=embedded.masked_scatter(places, image),
                attention_mask=block,
                position_ids=packed.positions,
                use_cache=False,
            ).last_hidden_state
            asked = packed.labels >= 0
            answers = self.model.lm_head(hidden[asked]).float()
            words = self.words(features)
        self.seen_words = (words.detach(), packed.words)
        loss = functional.cross_entropy(answers, packed.labels[asked])
        loss = loss + self.settings.words_weight * words_loss(words, packed.words)
        right = torch.zeros_like(asked)
        right[asked] = answers.detach().argmax(-1) == packed.labels[asked]
        return loss, right

    def _tower(self, pixels: torch.Tensor) -> torch.Tensor:
        """Patch features as LLaVA takes them: the last layer without the class token."""
        states = self.model.model.vision_tower(pixels, output_hidden_states=True).hidden_states
        features: torch.Tensor = states[-1][:, 1:]
        return features

    def save(self, path: Path) -> None:
        """Write a checkpoint under a temporary name, then put it in place."""
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_suffix(".tmp")
        state = {
            "settings": asdict(self.settings),
            "step": self.step,
            "model": self.model.state_dict(),
            "words": self.words.state_dict(),
            "optimizers": [[o.state_dict() for o in lesson] for lesson in self.lessons],
        }
        torch.save(state, temporary)
        temporary.replace(path)

    def load(self, path: Path) -> None:
        """Go on from a checkpoint of the same settings."""
        state = torch.load(path, weights_only=True)
        if state["settings"] != asdict(self.settings):
            raise ValueError(f"{path} was written with other settings: {state['settings']}")
        self.model.load_state_dict(state["model"])
        self.words.load_state_dict(state["words"])
        for lesson, states in zip(self.lessons, state["optimizers"], strict=True):
            for optimizer, saved in zip(lesson, states, strict=True):
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


def _make_batch(step: int, settings: Settings) -> Packed:
    assert _PACKER is not None
    return draw_batch(_PACKER, step, settings)


def draw_batch(packer: Packer, step: int, settings: Settings) -> Packed:
    """The batch of a step, of either lesson."""
    stage = stage_at(step, settings)
    if stage is None:
        return packer.pictures_at(step, settings.tower_batch)
    return packer.batch_at(step - settings.tower_steps, stage)


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
        for step in range(first, settings.all_steps):
            yield draw_batch(packer, step, settings)
        return
    context = get_context("spawn")
    with ProcessPoolExecutor(1, context, _start_worker, (settings,)) as pool:
        waiting: list[Future[Packed]] = []
        for step in range(first, settings.all_steps + 4):
            if step < settings.all_steps:
                waiting.append(pool.submit(_make_batch, step, settings))
            if step >= first + 4:
                yield waiting.pop(0).result()


def run(trainer: Trainer, out: Path, *, prefetch: bool, every: int, minutes: float) -> None:
    """Train to the end; log every `every` steps, write a checkpoint every `minutes`."""
    settings, tally = trainer.settings, Tally()
    out.mkdir(parents=True, exist_ok=True)
    started = saved = time.monotonic()
    last, losses = (trainer.step, started), 0.0
    with (out / "log.jsonl").open("a", encoding="utf-8") as log:
        for packed in batches(settings, trainer.step, prefetch=prefetch):
            loss, right = trainer.train_step(packed)
            tally.add(packed, right)
            losses += loss
            if not math.isfinite(loss):
                raise RuntimeError(f"the loss is {loss} at step {trainer.step}")
            now = time.monotonic()
            if trainer.step % every == 0:
                pace = (now - last[1]) / max(1, trainer.step - last[0])
                last = (trainer.step, now)
                left = pace * (settings.all_steps - trainer.step) / 60
                accuracies = tally.accuracies()
                if trainer.seen_words is not None:
                    seen = words_right(*trainer.seen_words)
                    accuracies.update({f"words: {k}": round(v, 3) for k, v in seen.items()})
                record = {"step": trainer.step, "loss": round(losses / every, 4)}
                print(
                    json.dumps({**record, "seconds": round(now - started), "tasks": accuracies}),
                    file=log,
                    flush=True,
                )
                shown = " ".join(
                    f"{k.partition(':')[2].strip()} {v:.2f}"
                    for k, v in accuracies.items()
                    if k.startswith("words" if trainer.step <= settings.tower_steps else "where")
                )
                print(
                    f"step {trainer.step}/{settings.all_steps} loss {losses / every:.3f} "
                    f"{pace:.3f} s/step, {left:.0f} min left | {shown}",
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
