"""Capture of attention rows in transformers: one attention function under two own names.

The function reads the wanted rows and calls the model's base function: sdpa, or the eager function
of the model's own module where the family has no sdpa. It is registered once per process, for the
attention *and* for its mask (without the second, transformers passes no mask at all, and padding
is attended to), and switched on for the language model alone; the vision tower keeps its own.
Without a recorder it costs one read of a context variable more than the base. The registered names
are the only global state of this package.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any

import torch
from transformers import AttentionInterface, PreTrainedModel
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import AttentionMaskInterface, eager_mask, sdpa_mask

from vg_engine.core.attention.rows import attention_rows
from vg_engine.core.contract.inputs import PreparedInputs
from vg_engine.core.errors import CaptureError, UnsupportedModelError

# Neither may contain the name of a stock implementation, for which transformers searches in names.
OVER_FUSED = "vg_rows"
OVER_PLAIN = "vg_rows_plain"
_INSTALLED = "_vg_engine_capture"
_EVALUATION = "_vg_engine_evaluation"
_LOCK = threading.Lock()
_Attended = tuple[torch.Tensor, torch.Tensor | None]


@dataclass(eq=False)
class Recorder:
    """A recorder of the wanted rows during one forward pass.

    Attributes:
        layers: id of a module inside a decoder layer -> index of that layer.
        wanted: layer -> its wanted heads.
        rows: batch x rows, positions on the query axis, on the model's device.
        taken: layer -> float32 rows, batch x wanted heads x rows x keys.
    """

    layers: Mapping[int, int]
    wanted: Mapping[int, tuple[int, ...]]
    rows: torch.Tensor
    taken: dict[int, torch.Tensor] = field(default_factory=dict)

    def take(
        self,
        module: torch.nn.Module,
        query: torch.Tensor,
        key: torch.Tensor,
        mask: torch.Tensor | None,
        options: Mapping[str, Any],
    ) -> None:
        """Compute and keep a layer's wanted rows, from the tensors of its own attention."""
        layer = self.layers.get(id(module))
        if layer is None or layer not in self.wanted:
            return
        if layer in self.taken:
            raise CaptureError(f"layer {layer} attends twice in one pass; its rows are ambiguous")
        if mask is not None and getattr(mask, "ndim", None) != 4:
            raise CaptureError(
                f"layer {layer}: expected a mask of 4 dimensions or none, got {type(mask).__name__}"
            )
        scaling, causal = options.get("scaling"), options.get("is_causal")
        if causal is None:
            causal = getattr(module, "is_causal", True)
        self.taken[layer] = attention_rows(
            query,
            key,
            self.rows,
            heads=self.wanted[layer],
            scale=query.shape[-1] ** -0.5 if scaling is None else scaling,
            mask=mask,
            causal=bool(causal) and query.shape[2] > 1,
            softcap=options.get("softcap"),
            sinks=options.get("s_aux"),
            position_bias=options.get("position_bias"),
        )

    def require(self) -> dict[int, torch.Tensor]:
        """Return the rows of every wanted layer.

        Raises:
            CaptureError: a layer was not recorded.
        """
        missing = sorted(set(self.wanted) - set(self.taken))
        if missing:
            raise CaptureError(
                f"no attention rows arrived from layers {missing}: they do not dispatch through "
                "transformers' AttentionInterface (choose heads of other layers), or the model's "
                "attention or layers were changed since it was loaded (make another engine)"
            )
        return self.taken


def rows_per_sequence(inputs: PreparedInputs) -> list[list[int]]:
    """List the rows that any query wants of each sequence, evened out by repeating the last."""
    sequences = len(inputs.tensors["input_ids"])
    wanted: list[list[int]] = [[] for _ in range(sequences)]
    for query in inputs.queries:
        wanted[query.sequence] += [row for row in query.rows if row not in wanted[query.sequence]]
    longest = max(map(len, wanted))
    return [rows + [rows[-1] if rows else 0] * (longest - len(rows)) for rows in wanted]


_RECORDER: ContextVar[Recorder | None] = ContextVar("vg_engine_recorder", default=None)


@contextmanager
def recording(recorder: Recorder) -> Iterator[Recorder]:
    """Make `recorder` the current one of this thread (or task) for the forward passes inside."""
    token = _RECORDER.set(recorder)
    try:
        yield recorder
    finally:
        _RECORDER.reset(token)


def _over_fused(module: torch.nn.Module, *states: Any, **options: Any) -> _Attended:
    return _attended(sdpa_attention_forward, module, *states, **options)


def _over_plain(module: torch.nn.Module, *states: Any, **options: Any) -> _Attended:
    base = sys.modules[type(module).__module__].eager_attention_forward
    return _attended(base, module, *states, **options)


def _attended(
    base: Callable[..., _Attended],
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    **options: Any,
) -> _Attended:
    """Call the base function; the wanted rows of a recorded layer are read before."""
    attention_mask = _chosen(attention_mask, options.pop("indices", None))
    attention_mask = _in_blocks(module, query, key, attention_mask, options)
    recorder = _RECORDER.get()
    if recorder is not None:
        recorder.take(module, query, key, attention_mask, options)
    return base(module, query, key, value, attention_mask, **options)


def _chosen(mask: torch.Tensor | None, keys: torch.Tensor | None) -> torch.Tensor | None:
    """Remove the keys that an indexer left out from the mask.

    Layers that attend to the best few keys of each query write these into the mask if the attention
    is named sdpa or eager; otherwise they pass their numbers: batch x queries x chosen.
    """
    if keys is None:
        return mask
    if mask is None:
        raise CaptureError("a layer that chooses its keys has no mask, so nothing can be left out")
    chosen = keys.long()[:, None]
    left_out = torch.ones(
        (*chosen.shape[:-1], mask.shape[-1]), dtype=torch.bool, device=mask.device
    )
    left_out.scatter_(-1, chosen, 0)
    nothing = False if mask.dtype == torch.bool else torch.finfo(mask.dtype).min
    return mask.masked_fill(left_out, nothing)


def _in_blocks(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    mask: torch.Tensor | None,
    options: dict[str, Any],
) -> torch.Tensor | None:
    """Remove the blocks of keys that an indexer left out from the mask, head by head.

    As `_chosen`, but the layer's own indexer turns its choice into a mask here.
    """
    blocks = options.pop("block_indices", None)
    if blocks is None:
        return mask
    positions = options.get("position_ids")
    if positions is None:
        positions = torch.arange(query.shape[2], device=query.device)[None]
    indexer: Any = module.indexer
    made: torch.Tensor = indexer.build_block_mask(
        blocks, mask, key.shape[2], query.dtype, query.device, positions
    )
    return made


def register() -> None:
    """Register both names with transformers. Idempotent."""
    AttentionInterface.register(OVER_FUSED, _over_fused)
    AttentionInterface.register(OVER_PLAIN, _over_plain)
    AttentionMaskInterface.register(OVER_FUSED, sdpa_mask)
    AttentionMaskInterface.register(OVER_PLAIN, eager_mask)


def layer_index(layers: Iterable[torch.nn.Module]) -> dict[int, int]:
    """Map the id of every module to the index of its layer."""
    return {id(part): index for index, layer in enumerate(layers) for part in layer.modules()}


@dataclass
class _Installation:
    """The original settings of a language model, and the number of loaded models that share it."""

    found: list[tuple[Any, str | None]]
    base: str
    owner: int  # id of the language model; a deep copy of an open one inherits this record
    users: int = 0


def install(language_model: PreTrainedModel) -> tuple[str, Callable[[], None]]:
    """Switch capture on for a language model, the part whose attention is read.

    Returns:
        The name of the model's previous attention (`sdpa`, `eager`, `flash_attention_2`), and a
        function that releases the model; the last of several users restores it.

    Raises:
        UnsupportedModelError: its attention does not dispatch through AttentionInterface.
    """
    with _LOCK:
        register()
        state: _Installation | None = vars(language_model).get(_INSTALLED)
        if state is None:
            state = _switch_on(language_model)
            vars(language_model)[_INSTALLED] = state
        elif state.owner != id(language_model):
            state.owner, state.users = id(language_model), 0
        state.users += 1
    closed = threading.Event()

    def close() -> None:
        with _LOCK:
            if closed.is_set():
                return
            closed.set()
            state.users -= 1
            if state.users == 0:
                _restore(state)
                del vars(language_model)[_INSTALLED]

    return state.base, close


@contextmanager
def evaluation(whole: torch.nn.Module) -> Iterator[None]:
    """Keep a model in evaluation mode for a block; the last of several blocks restores its modes.

    Dropout would make answers random in a model that its owner trains.
    """
    held = vars(whole)
    with _LOCK:
        blocks, training = held.pop(_EVALUATION, (0, []))
        training += [part for part in whole.modules() if part.training]
        for part in training:
            part.training = False
        held[_EVALUATION] = (blocks + 1, training)
    try:
        yield
    finally:
        with _LOCK:
            blocks, training = held.pop(_EVALUATION)
            if blocks > 1:
                held[_EVALUATION] = (blocks - 1, training)
            else:
                for part in training:
                    part.training = True


def _switch_on(language_model: PreTrainedModel) -> _Installation:
    parts = [part for part in language_model.modules() if isinstance(part, PreTrainedModel)]
    configs = list({id(part.config): part.config for part in parts}.values())
    found = [(config, config._attn_implementation) for config in configs]  # noqa: SLF001 - its name
    state = _Installation(found, str(found[0][1]), id(language_model))
    plain = not all(part._supports_sdpa for part in parts)  # noqa: SLF001 - the public flag's name
    name = OVER_PLAIN if plain else OVER_FUSED
    language_model.set_attn_implementation(name)
    if any(config._attn_implementation != name for config in configs):  # noqa: SLF001 - as above
        _restore(state)
        raise UnsupportedModelError(
            f"{type(language_model).__name__} does not let its attention be chosen through "
            "transformers' AttentionInterface, so its rows cannot be read"
        )
    return state


def _restore(state: _Installation) -> None:
    for config, implementation in state.found:
        # Set the private field: the public setter would check again whether, say, flash attention
        # can be loaded, and may refuse the implementation that the model already used.
        config._attn_implementation_internal = implementation  # noqa: SLF001 - see above
