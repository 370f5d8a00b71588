"""The contract's checks on a real checkpoint, for `vg-engine doctor`.

Nothing is built and nothing is kept twice: captured rows are compared with those of the very same
weights under eager attention, layer by layer as they go by, so that a large model's maps never
stand in memory together. In half precision eager attention itself rounds by some percent; there
the *ranking* of heads and the places of their peaks are compared instead.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Float32
from transformers import PreTrainedModel

from vg_engine.core.contract.inputs import Expression, PreparedInputs
from vg_engine.core.contract.prompt import Prompt
from vg_engine.core.errors import InputError, VGError
from vg_engine.testing import paint, parity, side_effects
from vg_engine.testing.harness import ContractError, Harness, image_positions, noise

TOLERANCE = 1e-4  # real weights are sharper than random ones: float32 itself rounds by 1e-5
RANKING, PEAKS = 0.98, 0.9
_STRONGEST = 20
_CLEAR = 0.05  # shares of a row's mass that rounding does not make out of each other
Status = Literal["ok", "failed", "skipped"]
Rows = dict[int, dict[int, torch.Tensor]]  # query -> layer -> heads x rows x keys


class SkippedError(Exception):
    """A check that cannot be made on this model; the message says why."""


@dataclass(frozen=True)
class Finding:
    """The finding of one check.

    Attributes:
        check: its name.
        status: ok, failed or skipped.
        description: what was measured, or why it failed or was skipped.
    """

    check: str
    status: Status
    description: str


@dataclass(frozen=True, eq=False)
class Patient:
    """A loaded model under examination.

    Attributes:
        opened: the adapter with the model, in the user's precision, on the user's device.
        probes: how many cells of every view are painted.
    """

    opened: Harness
    probes: paint.Probes = "all"

    @property
    def exact(self) -> bool:
        """True where rows can be compared number by number."""
        return self.opened.model.dtype in (torch.float32, torch.float64)

    @property
    def decoder(self) -> Any:
        """The language model."""
        module = self.opened.model.module
        if not isinstance(module, PreTrainedModel):
            raise SkippedError(f"{type(module).__name__} is no model of transformers")
        return self.opened.decoder


def examine(patient: Patient) -> Iterator[Finding]:
    """Every check in turn; the model is closed when the last one has run."""
    opened = patient.opened
    checks: tuple[tuple[str, Callable[[Patient], str]], ...] = (
        ("prompts", _prompts),
        ("image tokens", _tokens),
        ("cells (paint probe)", _cells),
        ("vision tower untouched", _vision),
        ("padding", _padding),
        ("leaving early", _early),
        ("nothing kept of another picture", _memory),
        ("two threads", _threads),
        ("rows equal eager attention", _eager),
        ("given back", _given_back),
    )
    try:
        for name, check in checks:
            yield _finding(name, check, patient)
    finally:
        opened.model.close()


def _finding(name: str, check: Callable[[Patient], str], patient: Patient) -> Finding:
    try:
        return Finding(name, "ok", check(patient))
    except SkippedError as skipped:
        return Finding(name, "skipped", str(skipped))
    except (ContractError, VGError) as error:
        return Finding(name, "failed", " ".join(str(error).split()))
    except Exception as error:  # noqa: BLE001 - whatever a model raises is a finding, too
        description = " ".join(str(error).split())
        return Finding(name, "failed", f"{type(error).__name__}: {description}")


def _prompts(patient: Patient) -> str:
    opened = patient.opened
    checked, planned = side_effects.check_unusual_expressions(opened)
    if not checked:
        raise SkippedError(
            f"the tokenizer knows the letters of none of {planned} test expressions, so where "
            "query rows lie was not checked"
        )
    forms = "bare and chat"
    try:
        side_effects.check_unusual_expressions(opened, Prompt("chat"))
    except InputError as error:
        forms = f"bare (the chat form cannot be used: {error})"
    return (
        f"{forms}: {checked} of {planned} expressions are found and end as they should, control "
        "words are refused"
    )


def rendered(opened: Harness, expression: str = "the cup on the left") -> dict[str, str]:
    """Both prompt forms with the picture's tokens written once, to hold against the original."""
    shown = {}
    for form in ("bare", "chat"):
        try:
            asked = [Expression(0, expression)]
            inputs = opened.prepare([noise((320, 240))], asked, Prompt(form))
            token = side_effects.image_token(opened)
        except Exception as error:  # noqa: BLE001 - a check will say it again, as a finding
            what = "" if isinstance(error, VGError) else f"{type(error).__name__}: "
            shown[form] = f"({what}{' '.join(str(error).split())})"
            continue
        pieces = inputs.rendered[0].split(token)
        # Runs of the token become one; tokens of other ids between them stay.
        shown[form] = token.join(p for i, p in enumerate(pieces) if p or i in (0, len(pieces) - 1))
    return shown


def _tokens(patient: Patient) -> str:
    total, refused = side_effects.check_tokens(patient.opened)
    more = f"; {len(refused)} strips are refused" if refused else ""
    return f"{total} tokens of {len(side_effects.ODD_SIZES) - len(refused)} pictures located{more}"


def _cells(patient: Patient) -> str:
    tower = patient.opened.tower
    if tower is None:
        raise SkippedError("the adapter does not say which part is its vision tower")
    blends = bool(getattr(patient.opened.adapter, "blends", False))
    try:
        with paint.unmixed(tower):
            report = paint.probe(
                patient.opened, paint.embeddings, strips=not blends, probes=patient.probes
            )
    except ContractError as error:
        if "no attention output projection" in str(error):
            raise SkippedError(str(error)) from error
        raise
    if blends and report.beside and report.beside == len(report.wrong):
        raise SkippedError(
            f"this model blends neighbouring cells: {report.right} of {report.planned} painted "
            f"cells moved most, and a direct neighbour in {report.beside} cases"
        )
    report.check()
    return f"{report.right} of {report.planned} painted cells moved most, {len(report.wrong)} wrong"


def _vision(patient: Patient) -> str:
    _ = patient.decoder
    side_effects.check_vision_alone(patient.opened)
    return "capture is switched on for the language model alone"


def _padding(patient: Patient) -> str:
    if not patient.exact:
        raise SkippedError("in half precision other lengths round otherwise; try --dtype float32")
    off = parity.check_alone(patient.opened, Prompt(query_row="expression_all"), 10 * TOLERANCE)
    return f"rows of a padded batch equal those of each expression alone, to {off:.1e}"


def _early(patient: Patient) -> str:
    layers = list(patient.decoder.layers)
    ran = parity.check_early_exit(patient.opened, layers)
    return f"{ran} of {len(layers)} layers ran for the heads of the first half"


def _memory(patient: Patient) -> str:
    parity.check_memory(patient.opened)
    return "a picture's rows are the same after another picture went through"


def _threads(patient: Patient) -> str:
    tolerance = TOLERANCE if patient.exact else 1e-2
    side_effects.check_threads(patient.opened, rounds=1, tolerance=tolerance)
    return "three threads on one model read what one reads"


def _eager(patient: Patient) -> str:
    """Batches padded and not, both forms; one prompt with its positions left to the model."""
    opened = patient.opened
    cases: list[tuple[PreparedInputs, tuple[str, ...]]] = [
        (parity.batch(opened, Prompt(query_row=row)), ())
        for row in ("expression_last", "expression_all")
    ]
    alone = opened.prepare([noise((150, 90))], [Expression(0, "the red circle")])
    cases.append((alone, ("position_ids",)))
    taken = [(opened.rows(inputs), opened.views(inputs)) for inputs, _ in cases]
    heads = opened.model.all_heads
    opened.model.close()
    worst, order, peaks = 0.0, 1.0, []
    for (inputs, without), (rows, views) in zip(cases, taken, strict=True):
        expected = eager_rows(patient, inputs, without)
        for index, (found, seen) in enumerate(zip(rows, views, strict=True)):
            plain = torch.stack([expected[index][h.layer][h.head] for h in heads])
            # Never `max`: a difference that is no number has to stay.
            off = (found - plain).abs().max().item()
            worst = max(worst, off)
            ordered, peak = _alike(found, plain, image_positions(seen))
            order = min(order, ordered)
            peaks.append(peak)
    description = f"largest difference {worst:.1e}"
    if patient.exact:
        if not worst <= TOLERANCE:
            raise ContractError(f"{description} (allowed: {TOLERANCE:.0e})")
        return description
    description += f", heads ranked alike {order:.3f}, "
    description += f"peaks of the {_STRONGEST} strongest in place {np.mean(peaks):.2f}"
    if not (order >= RANKING and np.mean(peaks) >= PEAKS and np.isfinite(worst)):
        raise ContractError(f"{description} (wanted: {RANKING} and {PEAKS})")
    return description


def _alike(
    found: Float32[torch.Tensor, "heads rows keys"],
    plain: Float32[torch.Tensor, "heads rows keys"],
    image: np.ndarray,
) -> tuple[float, float]:
    """Share of pairs of heads that are ordered alike, and of strong heads that peak alike.

    Heads are ordered by their attention to the picture. Pairs that rounding may swap count as
    alike: few heads would make a rank correlation jump at one of them.
    """
    a, b = (rows[..., image].mean(1).cpu() for rows in (found, plain))
    first, second = torch.triu_indices(len(b), len(b), 1)
    by = b.sum(-1)[first] - b.sum(-1)[second]
    clear = by.abs() > _CLEAR
    same = (a.sum(-1)[first] - a.sum(-1)[second]) * by > 0
    strongest = b.sum(-1).argsort(descending=True)[:_STRONGEST]
    peak = b[strongest].max(-1).values
    # A peak of equal height elsewhere is none the worse.
    there = b[strongest].gather(-1, a[strongest].argmax(-1, keepdim=True))[:, 0]
    ordered = float(same[clear].float().mean()) if bool(clear.any()) else 1.0
    return ordered, float((there >= 0.98 * peak).float().mean())


def eager_rows(patient: Patient, inputs: PreparedInputs, without: Sequence[str]) -> Rows:
    """The wanted rows under eager attention, taken layer by layer as they go by.

    Raises:
        SkippedError: the family's eager attention does not hand out its weights.
    """
    module: Any = patient.opened.model.module
    given = patient.opened.given(inputs).tensors
    tensors = {name: value for name, value in given.items() if name not in without}
    kept: Rows = {index: {} for index in range(len(inputs.queries))}
    with _watching(patient, inputs, kept), torch.no_grad():
        module.base_model(**tensors, use_cache=False)
    seeing = {head.layer for head in patient.opened.model.all_heads}
    missing = sorted(seeing - set(kept[0]))
    if missing:
        raise SkippedError(f"eager attention of layers {missing[:5]} hands out no weights")
    return kept


@contextmanager
def _watching(patient: Patient, inputs: PreparedInputs, kept: Rows) -> Iterator[None]:
    decoder, heads = patient.decoder, patient.opened.model.heads
    before = str(decoder.config._attn_implementation)  # noqa: SLF001 - transformers' name for it
    decoder.set_attn_implementation("eager")
    handles = []
    for layer, part in enumerate(decoder.layers):
        for name, child in part.named_children():
            if "attn" in name or "attention" in name:
                handles.append(child.register_forward_hook(_keeping(layer, heads, inputs, kept)))
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
        decoder.set_attn_implementation(before)


def _keeping(layer: int, heads: int, inputs: PreparedInputs, kept: Rows) -> Callable[..., None]:
    def keep(_module: object, _given: object, answer: object) -> None:
        weights = answer[1] if isinstance(answer, tuple) and len(answer) > 1 else None
        # Layers without maps hand out other things: the state of a convolution, say.
        if torch.is_tensor(weights) and weights.ndim == 4 and weights.shape[1] == heads:
            for index, query in enumerate(inputs.queries):
                kept[index][layer] = weights[query.sequence][:, list(query.rows)].float()

    return keep


def _given_back(patient: Patient) -> str:
    module: Any = patient.opened.model.module
    patient.opened.model.close()
    left = [n or "the model" for n, i in side_effects.implementations(module).items() if "vg_" in i]
    left += [
        f"{name or 'the model'}.{attribute}"
        for name, part in module.named_modules()
        for attribute in vars(part)
        if "vg_engine" in attribute
    ]
    if left:
        raise ContractError(f"still changed after close: {', '.join(left[:3])}")
    return "after close the model runs as transformers loaded it"


def summary(findings: Sequence[Finding]) -> Mapping[str, int]:
    """Count the findings per status."""
    return Counter(sorted(finding.status for finding in findings))
