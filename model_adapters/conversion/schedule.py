"""Schedule of tensors, compared with the native model before anything is written."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch

from vg_engine.core.errors import ModelError, PluginError, WeightsError
from vg_engine.model_adapters.conversion.protocol import Plan, Rule
from vg_engine.model_adapters.conversion.source import Checkpoint, line

_NAMED = 5


@dataclass(frozen=True)
class Output:
    """A tensor to be written.

    Attributes:
        name: new name.
        shape, dtype: as written.
        grown: whether rows are added.
    """

    name: str
    shape: tuple[int, ...]
    dtype: torch.dtype
    grown: bool = False

    @property
    def size(self) -> int:
        """Its size in bytes."""
        return self.dtype.itemsize * torch.Size(self.shape).numel()


@dataclass(frozen=True)
class Job:
    """The outputs of one tensor.

    Attributes:
        outputs: the tensors to write, in order.
        read: returns their data, one tensor per output.
    """

    outputs: tuple[Output, ...]
    read: Callable[[], Sequence[torch.Tensor]]

    @property
    def size(self) -> int:
        """The size of all outputs, in bytes."""
        return sum(output.size for output in self.outputs)

    def tensors(self) -> Iterator[tuple[Output, torch.Tensor]]:
        """Iterate over outputs and their data, filled up where rows are missing."""
        for output, tensor in zip(self.outputs, self.read(), strict=True):
            whole = _grow(tensor, output.shape[0]) if output.grown else tensor
            if tuple(whole.shape) != output.shape:
                raise WeightsError(
                    f"{output.name} came out as {list(whole.shape)}, foreseen {list(output.shape)}"
                )
            yield output, whole.to(output.dtype)


@dataclass(frozen=True)
class Schedule:
    """All jobs, with facts for the report.

    Attributes:
        jobs: in the order of the source's files.
        dtype: the most frequent type of weights.
        used: rule -> number of tensors that it renamed.
        dropped: keys that a rule drops.
    """

    jobs: tuple[Job, ...]
    dtype: torch.dtype
    used: Mapping[Rule, int]
    dropped: tuple[str, ...] = ()
    made: tuple[str, ...] = ()
    grown: tuple[str, ...] = field(default=())

    @property
    def size(self) -> int:
        """The size of all weights, in bytes."""
        return sum(job.size for job in self.jobs)


def expected_of(plan: Plan) -> dict[str, torch.Tensor]:
    """Return the native model's names and shapes; tied tensors that are saved once occur once.

    Raises:
        ModelError: the config does not fit the model class.
    """
    try:
        with torch.device("meta"):
            model: Any = plan.model_class(plan.config)
    except Exception as error:  # a config that is wrong somewhere raises nearly anything
        raise ModelError(
            f"the source's config makes no {plan.model_class.__name__} ({line(error)}); "
            "its config.json may be damaged"
        ) from error
    expected = dict(model.state_dict())
    if getattr(plan.config, "tie_word_embeddings", False):
        for name in getattr(model, "_tied_weights_keys", None) or ():
            expected.pop(name, None)
    return expected


def make(plan: Plan) -> Schedule:
    """Rename every key, and compare names and shapes with the model.

    Raises:
        WeightsError: keys are missing or unexpected, two tensors share a name, or shapes differ.
        ModelError: the config does not fit the model class.
    """
    expected = expected_of(plan)
    jobs: list[Job] = []
    used: Counter[Rule] = Counter()
    dropped: list[str] = []
    problems: dict[str, list[str]] = {
        kind: [] for kind in ("missing", "unexpected", "of another shape", "written twice")
    }
    for part in plan.parts:
        rules = [(re.compile(rule.pattern), rule) for rule in part.rules]
        for key, entry in part.checkpoint.entries.items():
            found = next(((m, r) for p, r in rules if (m := p.fullmatch(key))), None)
            if found is None:
                problems["unexpected"].append(key)
                continue
            match, rule = found
            used[rule] += 1
            names = tuple(match.expand(name) for name in rule.names)
            if not names:
                dropped.append(key)
                continue
            outputs = _outputs(names, _changed(rule, entry.empty(), key), expected, plan, problems)
            jobs.append(Job(outputs, partial(_read, part.checkpoint, key, rule)))
    dtype = _main_dtype(jobs)
    for name, maker in plan.made.items():
        like = expected[name].to(dtype)
        output = Output(name, tuple(like.shape), dtype)
        jobs.append(Job((output,), partial(_made, maker, like)))
    counts = Counter(output.name for job in jobs for output in job.outputs)
    problems["missing"] += [name for name in expected if name not in counts]
    problems["written twice"] += [name for name, count in counts.items() if count > 1]
    _refuse(problems, plan.parts[0].checkpoint.folder.name)
    grown = [output.name for job in jobs for output in job.outputs if output.grown]
    return Schedule(tuple(jobs), dtype, dict(used), tuple(dropped), tuple(plan.made), tuple(grown))


def _refuse(problems: Mapping[str, Sequence[str]], source: str) -> None:
    """Refuse a checkpoint of which some keys have a problem."""
    listed = [f"{len(keys)} {kind} ({_listed(keys)})" for kind, keys in problems.items() if keys]
    if listed:
        raise WeightsError(
            f"the keys of {source} are not those of its format: {'; '.join(listed)}; "
            "nothing was written: is the checkpoint complete, and is it this model?"
        )


def _outputs(
    names: tuple[str, ...],
    tensors: Sequence[torch.Tensor],
    expected: Mapping[str, torch.Tensor],
    plan: Plan,
    problems: Mapping[str, list[str]],
) -> tuple[Output, ...]:
    if len(names) != len(tensors):
        raise PluginError(f"a rule gives {len(tensors)} tensors for {len(names)} names: {names}")
    outputs = []
    for name, tensor in zip(names, tensors, strict=True):
        shape = tuple(tensor.shape)
        if name not in expected:
            problems["unexpected"].append(name)
        elif shape != (wanted := tuple(expected[name].shape)):
            if name in plan.grown and shape[1:] == wanted[1:] and shape[0] < wanted[0]:
                outputs.append(Output(name, wanted, tensor.dtype, grown=True))
                continue
            told = f"{name}: {list(shape)}, the config says {list(wanted)}"
            problems["of another shape"].append(told)
        outputs.append(Output(name, shape, tensor.dtype))
    return tuple(outputs)


def _changed(rule: Rule, tensor: torch.Tensor, key: str) -> Sequence[torch.Tensor]:
    if rule.change is None:
        return [tensor] * len(rule.names)
    try:
        return rule.change(tensor)
    except (RuntimeError, ValueError, IndexError) as error:
        raise WeightsError(
            f"{key} has shape {list(tensor.shape)}, which the config does not allow ({line(error)})"
        ) from error


def _read(checkpoint: Checkpoint, key: str, rule: Rule) -> Sequence[torch.Tensor]:
    return _changed(rule, checkpoint.tensor(key), key)


def _made(
    maker: Callable[[torch.Tensor], torch.Tensor], like: torch.Tensor
) -> Sequence[torch.Tensor]:
    return [maker(like)]


def _main_dtype(jobs: Sequence[Job]) -> torch.dtype:
    sizes: Counter[torch.dtype] = Counter()
    for job in jobs:
        for output in job.outputs:
            sizes[output.dtype] += output.size
    return sizes.most_common(1)[0][0] if sizes else torch.float32


def _grow(tensor: torch.Tensor, rows: int) -> torch.Tensor:
    # The mean row is never the most likely token, and has a usual magnitude.
    mean = tensor.to(torch.float32).mean(dim=0, keepdim=True).to(tensor.dtype)
    return torch.cat([tensor, mean.expand(rows - len(tensor), *tensor.shape[1:])])


def _listed(names: Sequence[str]) -> str:
    more = len(names) - _NAMED
    return ", ".join(names[:_NAMED]) + (f" and {more} more" if more > 0 else "")
