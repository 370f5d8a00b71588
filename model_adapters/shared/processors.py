"""Processors of checkpoints: built from their parts, with Pillow's image processors.

So torchvision is not needed, and does not change the results where it is installed.
"""

from __future__ import annotations

import copy
import importlib.util
import inspect
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import transformers
from transformers import AutoImageProcessor, AutoTokenizer, ProcessorMixin

from vg_engine.core.contract.model import ModelSpec
from vg_engine.core.errors import InputError, ModelError, UnsupportedModelError
from vg_engine.model_adapters.shared.loading import explained, files_of, first_line

# Mistral's own package, which transformers prefers where it is installed, gives no offsets; and
# its models' files from before transformers 5 split words by a wrong pattern, fixed on demand.
_FROM_ITS_FILE = MappingProxyType({"mistral_format": False, "fix_mistral_regex": True})


def load_processor(spec: ModelSpec, processor_class: Any, backend: str = "pil") -> Any:
    """Load the processor of `spec` without its video part, with Pillow's image processor.

    Args:
        spec: the model whose files are read.
        processor_class: transformers' class.
        backend: `pil`, or `torchvision` for families without a Pillow form.

    Raises:
        ModelError: its files are missing or broken.
        UnsupportedModelError: it needs torchvision, which is not installed.
    """
    if backend != "pil" and importlib.util.find_spec(backend) is None:
        raise UnsupportedModelError(
            f"{spec.source}: the image processor of this family exists in transformers only on "
            f"top of {backend}, which is not installed: pip install {backend}"
        )
    source, shared = files_of(spec)
    image_class: Any = AutoImageProcessor
    try:
        images = image_class.from_pretrained(source, backend=backend, **shared)
        tokenizer = AutoTokenizer.from_pretrained(source, **_FROM_ITS_FILE, **shared)
        settings, _ = processor_class.get_processor_dict(source, revision=shared["revision"])
        stated = {
            name: value
            for name, value in settings.items()
            if name == "chat_template" or not isinstance(value, Mapping)
        }
        whole = without_video(processor_class)
        return _with_one_template(whole.from_args_and_dict([images, tokenizer], stated))
    except Exception as error:
        if isinstance(source, str) and isinstance(error, OSError):
            raise explained(spec, error) from error
        raise ModelError(
            f"the processor of {spec.source} cannot be loaded: {first_line(error)}; the folder "
            "needs the tokenizer's and the image processor's files beside the weights"
        ) from error


class _PartsAtHand(ProcessorMixin):
    """A base for processor classes that takes only the parts that are present."""

    _order: tuple[str, ...] = ()

    def __init__(self, *parts: Any, **settings: Any) -> None:
        setup: Any = super().__init__
        given = {key: value for key, value in settings.items() if value is not None}
        setup(*(part for part in parts if part is not None), **given)

    @classmethod
    def from_args_and_dict(cls, args: Any, processor_dict: Any, **more: Any) -> Any:
        """Build from the present parts, in their order, always with the chat template."""
        kind: Any = cls
        if len(args) < len(cls._order):
            there = dict(zip(kind.get_attributes(), args, strict=False))
            args = [there.get(name) for name in cls._order]
        base: Any = super()
        made = base.from_args_and_dict(args, processor_dict, **more)
        made.chat_template = made.chat_template or processor_dict.get("chat_template")
        return made


def without_video(processor_class: Any) -> Any:
    """Limit a processor class to pictures and text: video and sound need further packages."""
    parts = ("image_processor", "tokenizer")
    order = tuple(processor_class.get_attributes())
    kept = [name for name in order if name in parts]
    # Up to the last required argument: later ones are not parts.
    known = inspect.signature(processor_class.__init__).parameters
    given = [n for n in order if n in known and known[n].default is inspect.Parameter.empty]
    last = max((order.index(name) for name in (*kept, *given)), default=-1)
    return type(
        processor_class.__name__,
        (processor_class, _PartsAtHand),
        {
            "get_attributes": classmethod(lambda _: list(kept)),
            "_order": order[: last + 1],
            "__module__": __name__,
        },
    )


def _with_one_template(processor: Any) -> Any:
    """Keep the default one of several named chat templates."""
    for holder in (processor, processor.tokenizer):
        named = getattr(holder, "chat_template", None)
        if isinstance(named, Mapping):
            holder.chat_template = named.get("default")
    return processor


def mixed_in(own: Any, mixin: type) -> None:
    """Put a mixin before the class of an object that is the adapter's own."""
    kind = type(own)
    if not issubclass(kind, mixin):
        own.__class__ = type(kind.__name__, (mixin, kind), {"__module__": mixin.__module__})


def tiles_asked(options: Mapping[str, Any], by_default: int) -> int:
    """Read the option `max_tiles`.

    Raises:
        InputError: it is no number of tiles.
    """
    most = options.get("max_tiles", by_default)
    if not isinstance(most, int) or most < 1:
        raise InputError(f"max_tiles {most!r}: give a number from 1 on")
    return most


def own_processor(processor: Any) -> Any:
    """Copy a processor for the adapter, with Pillow's image processor instead of torchvision's.

    An image processor of transformers without a Pillow form is kept, as its family has no other.

    Raises:
        UnsupportedModelError: an image processor from elsewhere has no Pillow form.
    """
    if not (hasattr(processor, "tokenizer") and hasattr(processor, "image_processor")):
        raise InputError(
            f"processor must be the model's processor, with tokenizer and image_processor, got "
            f"{type(processor).__name__}; load it with transformers.AutoProcessor"
        )
    own = copy.copy(processor)
    # Tokenizers keep the padding of their last call; a copy leaves the user's unchanged, and what
    # the user changes later does not change answers.
    own.tokenizer = copy.deepcopy(processor.tokenizer)
    own.image_processor = copy.deepcopy(processor.image_processor)
    _with_one_template(own)
    images = own.image_processor
    if getattr(images, "backend", "pil") != "pil":
        name = type(images).__name__.removesuffix("Fast") + "Pil"
        pillow = getattr(transformers, name, None)
        if pillow is None and type(images).__module__.startswith("transformers.models."):
            return own
        if pillow is None:
            raise UnsupportedModelError(
                f"image processor {type(images).__name__} has no Pillow form ({name}), so where "
                "its picture's pixels go is not known exactly"
            )
        settings = images.to_dict()
        settings.pop("image_processor_type", None)
        own.image_processor = pillow.from_dict(settings)
    return own
