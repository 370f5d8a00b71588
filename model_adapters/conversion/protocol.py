"""Types of a converter: rules for keys, a config, a processor. See the package's manual."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import torch

from vg_engine.model_adapters.conversion.source import Checkpoint

ASSUMED = ""


@dataclass(frozen=True)
class Rule:
    r"""A rule that renames the keys of one form.

    Attributes:
        pattern: regular expression that a whole key matches.
        names: new names, in which \1 stands for a group of the pattern; none drops the tensor.
        known: the public script that the rule was checked against; `ASSUMED` if it was never
            confirmed by a checkpoint or a script.
        change: the tensor -> one tensor per name; it must run on tensors without data, too.
    """

    pattern: str
    names: tuple[str, ...] = ()
    known: str = ASSUMED
    change: Callable[[torch.Tensor], Sequence[torch.Tensor]] | None = None


@dataclass(frozen=True)
class Part:
    """A folder's tensors with the rules that they follow."""

    checkpoint: Checkpoint
    rules: tuple[Rule, ...]


@dataclass(frozen=True)
class Request:
    """The input of a conversion.

    Attributes:
        source: the checkpoint; a delta has had its base added.
        vision_tower: the folder given with --vision-tower.
        was_delta: whether a base was added.
    """

    source: Checkpoint
    vision_tower: Checkpoint | None = None
    was_delta: bool = False


@dataclass(frozen=True)
class Plan:
    """A conversion, before anything is written.

    Attributes:
        config: the native config.
        model_class: the native class; `model_class(config)` defines the keys and shapes.
        parts: the sources of tensors.
        processor: tokenizer, image processor and chat template, as one with `save_pretrained`;
            None writes none of these.
        made: name -> the tensor that no file holds, made like the given one (shape, dtype).
        grown: names that may have fewer rows in the file; the mean row fills them up.
        statements: remarks for the user.
        extra: further entries of the written config.json.
        copied: names of files that are copied from the source as they are.
    """

    config: Any
    model_class: Any
    parts: tuple[Part, ...]
    processor: Any = None
    made: Mapping[str, Callable[[torch.Tensor], torch.Tensor]] = field(default_factory=dict)
    grown: tuple[str, ...] = ()
    statements: tuple[str, ...] = ()
    extra: Mapping[str, Any] = field(default_factory=dict)
    copied: tuple[str, ...] = ()


class Converter:
    """Base of the converters.

    Class attributes:
        name: name of the format.
        summary: its models' usual name, in a few words.
        takes_tower: whether --vision-tower applies.
        delta_norm: key of the last norm's weights, which are near zero in a delta and nowhere
            else; None where no deltas were published (--base is then refused).
        gives_way: to any other converter that claims the same folder.
    """

    name: ClassVar[str] = ""
    summary: ClassVar[str] = ""
    takes_tower: ClassVar[bool] = False
    delta_norm: ClassVar[str | None] = None
    gives_way: ClassVar[bool] = False

    def claims(self, config: Mapping[str, Any]) -> bool:
        """Check whether a folder with this config.json is of this format."""
        raise NotImplementedError

    def plan(self, request: Request) -> Plan:
        """Plan the conversion.

        Raises:
            VGError: the input cannot be converted.
        """
        raise NotImplementedError
