"""Parity: captured rows equal those of eager attention, and leaving early changes nothing."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch.overrides import TorchFunctionMode

from vg_engine.core.contract.inputs import AttentionRequest, Expression, PreparedInputs
from vg_engine.core.contract.prompt import Prompt
from vg_engine.core.geometry import View
from vg_engine.core.heads import Head
from vg_engine.testing.harness import ContractError, Harness, image_positions, noise, padding

TOLERANCE = 1e-5
# Another processor rounds otherwise: so many times what float32 itself loses there is allowed, up
# to half of what a wrong capture has to show.
ROUNDING, MOST = 4.0, 5e-5
SHARPEST = 0.8
# Several lengths, so that a batch is padded; several kinds of row.
EXPRESSIONS = (
    "the red circle",
    "the second person from the left, who holds an umbrella",
    "which one is the cup?",
    "it",
)
# The last is as the first, turned: as many cells in many models, and in other places.
SIZES = ((150, 90), (64, 64), (70, 200), (90, 150))
Alone = tuple[torch.Tensor, tuple[View, ...]]  # rows and views of one expression by itself
_ORDER = (1, 0, 2, 1)  # which picture each expression is about: never the one of its own number


@dataclass(frozen=True)
class Parity:
    """The result of a parity check.

    Attributes:
        error: largest difference of any entry, over all layers, heads and chosen rows.
        sharpest: largest entry on an image token; agreement of flat rows would mean little.
        on_padding: largest entry on padding.
        compared: number of rows.
        rounding: how far eager attention in float32 is from float64; None where it was not needed,
            or where the model does not run in float64.
    """

    error: float
    sharpest: float
    on_padding: float
    compared: int
    rounding: float | None = None


def batch(
    opened: Harness,
    prompt: Prompt,
    expressions: Sequence[str] = EXPRESSIONS,
    *,
    backwards: bool = False,
) -> PreparedInputs:
    """Expressions of several lengths about pictures of several shapes, in one batch."""
    pictures = [noise(size, seed) for seed, size in enumerate(SIZES[:3])]
    asked = [Expression(_ORDER[i % len(_ORDER)], text) for i, text in enumerate(expressions)]
    return opened.prepare(pictures, asked[::-1] if backwards else asked, prompt)


def joined(batches: Sequence[PreparedInputs]) -> list[PreparedInputs]:
    """Batches of the very same tensors as one, whose queries hold the rows of all."""
    found: list[PreparedInputs] = []
    for each in batches:
        same = next((i for i, one in enumerate(found) if _alike(one, each)), None)
        if same is None:
            found.append(each)
            continue
        queries = tuple(
            replace(query, rows=tuple(dict.fromkeys((*query.rows, *more.rows))), tokens=())
            for query, more in zip(found[same].queries, each.queries, strict=True)
        )
        found[same] = replace(found[same], queries=queries)
    return found


def _alike(one: PreparedInputs, other: PreparedInputs) -> bool:
    return one.tensors.keys() == other.tensors.keys() and all(
        torch.equal(tensor, other.tensors[name]) for name, tensor in one.tensors.items()
    )


def eager_rows(
    opened: Harness, reference: Any, inputs: PreparedInputs, *, without: tuple[str, ...] = ()
) -> list[Float[torch.Tensor, "heads _rows keys"]]:
    """The wanted rows of every head of a model that was loaded with eager attention, by query.

    Args:
        opened: says which layers see the picture.
        reference: the model without the adapter.
        inputs: what goes in.
        without: names of tensors that are left to the model.
    """
    tensors = {name: value for name, value in inputs.tensors.items() if name not in without}
    with torch.no_grad():
        answer = reference(**tensors, output_attentions=True, use_cache=False)
    if not answer.attentions:
        raise ContractError("the reference gave no attentions; load it with eager attention")
    heads = opened.model.all_heads
    seeing = sorted({head.layer for head in heads})
    found = [layer for layer in answer.attentions if layer is not None]
    if len(found) == opened.model.layers:
        by_layer = dict(enumerate(found))
    elif len(found) == len(seeing):
        by_layer = dict(zip(seeing, found, strict=True))
    else:
        raise ContractError(
            f"the reference gave {len(found)} attentions for {len(seeing)} layers with maps"
        )
    return [
        torch.stack([by_layer[h.layer][query.sequence, h.head, list(query.rows)] for h in heads])
        for query in inputs.queries
    ]


def compare(
    opened: Harness, reference: Any, inputs: PreparedInputs, *, without: tuple[str, ...] = ()
) -> Parity:
    """Compare the rows of every head with eager attention; see `eager_rows`."""
    expected = eager_rows(opened, reference, inputs, without=without)
    taken, views = opened.rows(inputs), opened.views(inputs)
    error = sharpest = on_padding = 0.0
    where = ""
    for query, rows, eager, seen in zip(inputs.queries, taken, expected, views, strict=True):
        off = (rows - eager).abs().amax(dim=(1, 2))
        head = int(off.argmax())
        if not off[head].item() <= error:
            error, where = (
                off[head].item(),
                f"{opened.model.all_heads[head]} of {query.expression!r}",
            )
        sharpest = max(sharpest, rows[..., image_positions(seen)].max().item())
        pads = padding(inputs, query.sequence, rows.shape[-1])
        if bool(pads.any()):
            on_padding = max(on_padding, rows[..., pads].max().item())
    if on_padding > TOLERANCE:
        raise ContractError(
            f"padding takes {on_padding:.3g} of a row: is the mask function registered, and the "
            "attention mask handed on?"
        )
    lost = None
    if not error <= TOLERANCE:
        lost = rounding(opened, reference, inputs, expected, without=without)
        allowed = min(MOST, max(TOLERANCE, ROUNDING * (lost or 0.0)))
        if not error <= allowed:
            known = "it does not run in float64" if lost is None else f"float32 loses {lost:.0e}"
            raise ContractError(
                f"captured rows differ from eager attention by {error:.3g} at {where} "
                f"(allowed: {allowed:.0e}; {known})"
            )
    compared = len(opened.model.all_heads) * sum(len(query.rows) for query in inputs.queries)
    return Parity(error, sharpest, on_padding, compared, lost)


class _Double(TorchFunctionMode):
    """Keeps in float64 what a model's code turns into float32: norms, rotations, softmax."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        del types
        if func is torch.Tensor.float:
            func = torch.Tensor.double
        args = [torch.float64 if value is torch.float32 else value for value in args]
        kwargs = {
            name: torch.float64 if value is torch.float32 else value
            for name, value in (kwargs or {}).items()
        }
        return func(*args, **kwargs)


def rounding(
    opened: Harness,
    reference: Any,
    inputs: PreparedInputs,
    expected: Sequence[Float[torch.Tensor, "heads _rows keys"]],
    *,
    without: tuple[str, ...] = (),
) -> float | None:
    """Measure how far eager rows are from those of the same weights in float64, on this processor.

    Returns:
        The largest difference; None where the model does not run in float64.
    """
    tensors = {
        name: value.double() if value.is_floating_point() else value
        for name, value in inputs.tensors.items()
    }
    try:
        exact = copy.deepcopy(reference).double()
        with _Double():
            rows = eager_rows(opened, exact, replace(inputs, tensors=tensors), without=without)
    except Exception:  # noqa: BLE001 - a model with a fixed precision fails in ways of its own
        return None
    return max((a - b).abs().max().item() for a, b in zip(rows, expected, strict=True))


def check_positions(opened: Harness, reference: Any) -> float:
    """One prompt without padding, its positions left to the model; returns the difference.

    A batch is compared with the very positions that the adapter hands over, so that wrong ones
    would agree with themselves.
    """
    worst = 0.0
    for seed, size in enumerate(SIZES):
        # A picture of another shape each time: a model that keeps the last one's positions shows.
        inputs = opened.prepare([noise(size, seed)], [Expression(0, EXPRESSIONS[0])])
        try:
            worst = max(worst, compare(opened, reference, inputs, without=("position_ids",)).error)
        except ContractError as error:
            raise ContractError(
                f"without padding, and with positions left to the model: {error}; see "
                "HuggingFaceAdapter.position_ids"
            ) from error
    return worst


def check_memory(opened: Harness) -> None:
    """A picture's rows are the same whatever went through the model before, and its own."""
    asked = [(noise(size, i), Expression(0, EXPRESSIONS[i])) for i, size in enumerate(SIZES[:2])]
    alone = opened.prepare([asked[0][0]], [asked[0][1]])
    before, seen = opened.rows(alone)[0], opened.views(alone)[0]
    # Two users at a time: both prepare their batches before the first one is read.
    first, other = (opened.prepare([picture], [asking]) for picture, asking in asked)
    if not _same_views(opened.views(first)[0], seen):
        raise ContractError(
            "the views of a batch change when another one is prepared before they are asked for: "
            "something is kept between vg_prepare_inputs and vg_locate_image_tokens"
        )
    opened.rows(other)
    off = (opened.rows(first)[0] - before).abs().max().item()
    if not off <= TOLERANCE:
        raise ContractError(f"another picture in between changes the rows by {off:.3g}")
    # As large, and asked the same: whatever is kept by size or by prompt is kept too long.
    alike = opened.prepare([noise(SIZES[0], len(SIZES))], [Expression(0, EXPRESSIONS[0])])
    if torch.equal(opened.rows(alike)[0], before):
        raise ContractError(
            "two pictures of one size give the very same rows: something is kept from one call to "
            "the next, or the picture never arrives"
        )


def _same_views(found: Sequence[View], expected: Sequence[View]) -> bool:
    return len(found) == len(expected) and all(
        a.to_original == b.to_original and np.array_equal(a.positions, b.positions)
        for a, b in zip(found, expected, strict=True)
    )


def check_sharp(parities: Sequence[Parity]) -> None:
    """Refuse a comparison in which every row was flat."""
    sharpest = max(parity.sharpest for parity in parities)
    if sharpest < SHARPEST:
        raise ContractError(
            f"the sharpest entry on an image token is {sharpest:.2f}, below {SHARPEST}: rows this "
            "flat agree with anything; sharpen the checkpoint more (query and key projections)"
        )


def check_alone(
    opened: Harness,
    prompt: Prompt,
    tolerance: float = 1e-4,
    *,
    alone: dict[tuple[int, str], Alone] | None = None,
) -> float:
    """Rows and views of a padded batch equal those of each expression by itself.

    Args:
        opened: the model.
        prompt: how is asked.
        tolerance: wider than parity's: other positions mean other rotations, and a sharpened model
            magnifies their rounding.
        alone: is filled with what each expression gives alone, which no side of padding changes;
            the next side's check starts from it.

    Returns:
        The largest difference of the rows.
    """
    alone = {} if alone is None else alone
    # Backwards, too: as large a batch, padded in other places.
    batches = (batch(opened, prompt, backwards=backwards) for backwards in (False, True))
    return max(_check_alone(opened, prompt, each, tolerance, alone) for each in batches)


def _check_alone(
    opened: Harness,
    prompt: Prompt,
    together: PreparedInputs,
    tolerance: float,
    known: dict[tuple[int, str], Alone],
) -> float:
    rows, views, worst = opened.rows(together), opened.views(together), 0.0
    for query, taken, seen in zip(together.queries, rows, views, strict=True):
        asked = query.scene, query.expression
        if asked not in known:
            picture = noise(SIZES[query.scene], query.scene)
            inputs = opened.prepare([picture], [Expression(0, query.expression)], prompt)
            known[asked] = opened.rows(inputs)[0], opened.views(inputs)[0]
        expected, alone = known[asked]
        pads = padding(together, query.sequence, taken.shape[-1])
        inside = taken[..., ~pads]
        if inside.shape != expected.shape:
            raise ContractError(
                f"{query.expression!r}: rows of shape {tuple(inside.shape)} in a batch without its "
                f"padding, {tuple(expected.shape)} alone; padding is not accounted for"
            )
        _check_views(query.expression, seen, alone, pads)
        off = (inside - expected).abs().max().item()
        if not off <= worst:
            worst = off
    if not worst <= tolerance:
        raise ContractError(
            f"rows of a padded batch differ by {worst:.3g} from those of the same expressions "
            "alone; padding takes part, or rows are counted without it"
        )
    return worst


def _check_views(
    asked: str, found: Sequence[View], alone: Sequence[View], pads: Bool[torch.Tensor, " keys"]
) -> None:
    """Refuse views of a batch that are not those of the picture by itself, padding counted."""
    moved = np.flatnonzero(~pads.numpy(force=True))
    same = len(found) == len(alone) and all(
        a.to_original == b.to_original and np.array_equal(a.positions, moved[b.positions])
        for a, b in zip(found, alone, strict=True)
    )
    if not same:
        raise ContractError(
            f"{asked!r}: views of a batch are not those of its picture alone: of another picture, "
            "or padding is not counted"
        )


def check_early_exit(opened: Harness, layers: Sequence[torch.nn.Module]) -> int:
    """Rows of a shallow layer need only the layers up to it; returns how many ran."""
    inputs = batch(opened, Prompt())
    last = max(0, len(layers) // 2 - 1)
    wanted = tuple(head for head in opened.model.all_heads if head.layer <= last)
    if not wanted:
        raise ContractError(f"no layer up to {last} can point at the picture; give more layers")
    last = max(head.layer for head in wanted)
    # In an order of its own: rows come in the order in which they are asked for.
    wanted = wanted[::-1]
    expected = dict(zip(opened.model.all_heads, opened.rows(inputs)[0], strict=True))
    ran: list[int] = []
    handles = [
        layer.register_forward_hook(lambda *_, index=index: ran.append(index))
        for index, layer in enumerate(layers)
    ]
    try:
        rows = opened.rows(inputs, AttentionRequest(wanted))[0]
    finally:
        for handle in handles:
            handle.remove()
    for head, row in zip(wanted, rows, strict=True):
        _same(head, row, expected[head])
    # A head set asks for some heads of a layer: not the first ones, and in no order.
    some = tuple(head for head in wanted if head.head % 2 or head.head == opened.model.heads - 1)
    for head, row in zip(some, opened.rows(inputs, AttentionRequest(some))[0], strict=True):
        _same(head, row, expected[head], "asking for some heads of a layer")
    allowed = last + 1 if opened.model.capabilities.early_exit else len(layers)
    if sorted(set(ran)) != list(range(allowed)) or len(ran) != allowed:
        raise ContractError(f"layers {ran} ran for rows of layers 0 to {last}")
    return len(ran)


def _same(
    head: Head, row: torch.Tensor, expected: torch.Tensor, what: str = "leaving early"
) -> None:
    off = (row - expected).abs().max().item()
    if not off <= TOLERANCE:
        raise ContractError(f"{what} changes the rows of {head} by {off:.3g}")
