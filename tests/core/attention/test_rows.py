"""Masked rows against the plainest reading of the formula, over every kind of mask."""

import math

import pytest
import torch

from vg_engine.core.attention import rows as rows_module
from vg_engine.core.attention.rows import attention_rows
from vg_engine.core.errors import CaptureError, HeadsError

BATCH, HEADS, KEYS_HEADS, LENGTH, DIM = 3, 6, 2, 11, 8
SCALE = 0.7


@pytest.fixture
def tensors():
    generator = torch.Generator().manual_seed(1)
    query = torch.randn(BATCH, HEADS, LENGTH, DIM, generator=generator) * 2
    key = torch.randn(BATCH, KEYS_HEADS, LENGTH, DIM, generator=generator) * 2
    return query, key


def plain(query, key, sample, head, row, *, allowed=None, add=None, softcap=None, sink=None):
    """One row, number by number."""
    kept = key[sample, head // (query.shape[1] // key.shape[1])]
    logits = []
    for position in range(kept.shape[0]):
        value = float(query[sample, head, row].double() @ kept[position].double()) * SCALE
        if softcap is not None:
            value = softcap * math.tanh(value / softcap)
        if add is not None:
            value += float(add[position])
        if allowed is not None and not allowed[position]:
            value = -math.inf
        logits.append(value)
    top = max(logits) if sink is None else max(*logits, sink)
    weights = [math.exp(value - top) for value in logits]
    total = sum(weights) + (0.0 if sink is None else math.exp(sink - top))
    return torch.tensor([weight / total for weight in weights])


def causal(row, length=LENGTH, offset=0):
    return [position <= row + offset for position in range(length)]


ROWS = torch.tensor([[10, 3], [5, 5], [0, 9]])
WANTED = [4, 0, 5]


def check(taken, query, key, **options):
    per_row = {name: value for name, value in options.items() if callable(value)}
    fixed = {name: value for name, value in options.items() if not callable(value)}
    for s in range(BATCH):
        for i, head in enumerate(WANTED):
            for j, row in enumerate(ROWS[s].tolist()):
                settings = {name: of(s, head, row) for name, of in per_row.items()}
                expected = plain(query, key, s, head, row, **settings, **fixed)
                torch.testing.assert_close(
                    taken[s, i, j].double(), expected.double(), atol=2e-6, rtol=0
                )


def test_no_mask_is_causal_with_grouped_keys(tensors):
    taken = attention_rows(*tensors, ROWS, heads=WANTED, scale=SCALE)
    check(taken, *tensors, allowed=lambda _s, _h, row: causal(row))
    assert taken.dtype == torch.float32


def test_no_mask_can_see_everything(tensors):
    check(attention_rows(*tensors, ROWS, heads=WANTED, scale=SCALE, causal=False), *tensors)


def test_offset_counts_keys_before_the_first_query(tensors):
    query, key = tensors
    late = query[:, :, :4]
    taken = attention_rows(
        late, key, torch.tensor([[2]] * BATCH), heads=WANTED, scale=SCALE, offset=7
    )
    for s in range(BATCH):
        for i, head in enumerate(WANTED):
            expected = plain(late, key, s, head, 2, allowed=causal(2, offset=7))
            torch.testing.assert_close(taken[s, i, 0], expected, atol=2e-6, rtol=0)


@pytest.mark.parametrize("shape", [(BATCH, 1), (1, 1), (BATCH, HEADS), (1, HEADS)])
def test_boolean_masks_of_every_shared_shape(tensors, shape):
    mask = torch.rand(*shape, LENGTH, LENGTH + 2) < 0.6
    mask[..., 0] = True
    taken = attention_rows(*tensors, ROWS, heads=WANTED, scale=SCALE, mask=mask)
    full = mask.expand(BATCH, HEADS, -1, -1)
    check(taken, *tensors, allowed=lambda s, h, r: full[s, h, r].tolist())


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_additive_masks_in_every_precision(tensors, dtype):
    seen = torch.rand(BATCH, 1, LENGTH, LENGTH) < 0.6
    seen[..., 0] = True
    mask = torch.where(seen, torch.randn(seen.shape), torch.finfo(dtype).min).to(dtype)
    taken = attention_rows(*tensors, ROWS, heads=WANTED, scale=SCALE, mask=mask)
    check(
        taken,
        *tensors,
        add=lambda s, _h, r: mask[s, 0, r].clamp(min=-1e4),
        allowed=lambda s, _h, r: seen[s, 0, r].tolist(),
    )
    assert taken[..., 0].min() > 0
    at = seen[torch.arange(BATCH)[:, None], 0, ROWS]
    assert taken.permute(0, 2, 1, 3)[~at[:, :, None].expand(-1, -1, len(WANTED), -1)].max() == 0


def test_softcap_comes_before_the_mask(tensors):
    mask = torch.ones(1, 1, LENGTH, LENGTH).tril().bool()
    taken = attention_rows(*tensors, ROWS, heads=WANTED, scale=SCALE, mask=mask, softcap=1.5)
    check(taken, *tensors, allowed=lambda _s, _h, r: causal(r), softcap=1.5)


def test_a_sink_takes_its_share_and_is_dropped(tensors):
    sinks = torch.linspace(-1, 4, HEADS)
    taken = attention_rows(*tensors, ROWS, heads=WANTED, scale=SCALE, sinks=sinks)
    check(
        taken, *tensors, allowed=lambda _s, _h, r: causal(r), sink=lambda _s, h, _r: float(sinks[h])
    )
    assert (taken.sum(-1) < 1).all()


def test_position_bias_is_added_with_the_mask(tensors):
    bias = torch.randn(1, HEADS, LENGTH, LENGTH)
    taken = attention_rows(*tensors, ROWS, heads=WANTED, scale=SCALE, position_bias=bias)
    check(
        taken,
        *tensors,
        add=lambda _s, h, r: bias[0, h, r],
        allowed=lambda _s, _h, r: causal(r),
    )


def test_a_row_that_may_see_nothing_stays_finite(tensors):
    mask = torch.zeros(1, 1, LENGTH, LENGTH, dtype=torch.bool)
    taken = attention_rows(*tensors, ROWS, heads=WANTED, scale=SCALE, mask=mask)
    assert torch.isfinite(taken).all()


def test_half_precision_is_multiplied_in_float32(tensors):
    query, key = (tensor.to(torch.bfloat16) for tensor in tensors)
    expected = attention_rows(query.float(), key.float(), ROWS, heads=WANTED, scale=SCALE)
    assert torch.equal(attention_rows(query, key, ROWS, heads=WANTED, scale=SCALE), expected)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(attention_rows(query, key, ROWS, heads=WANTED, scale=SCALE), expected)


def test_chunks_change_nothing(tensors, monkeypatch):
    expected = attention_rows(*tensors, ROWS, heads=WANTED, scale=SCALE)
    monkeypatch.setattr(rows_module, "CHUNK", 1)
    assert torch.equal(attention_rows(*tensors, ROWS, heads=WANTED, scale=SCALE), expected)


def test_what_does_not_fit_is_refused(tensors):
    query, key = tensors
    with pytest.raises(HeadsError, match="heads 0 to 5"):
        attention_rows(query, key, ROWS, heads=[6], scale=SCALE)
    with pytest.raises(CaptureError, match="cannot share"):
        attention_rows(query[:, :5], key, ROWS, heads=[0], scale=SCALE)
    mask = torch.ones(1, 1, LENGTH, 4, dtype=torch.bool)
    with pytest.raises(CaptureError, match="over 4 keys"):
        attention_rows(query, key, ROWS, heads=[0], scale=SCALE, mask=mask)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here")
def test_cuda_agrees_with_the_cpu(tensors):
    expected = attention_rows(*tensors, ROWS, heads=WANTED, scale=SCALE)
    taken = attention_rows(*(t.cuda() for t in tensors), ROWS.cuda(), heads=WANTED, scale=SCALE)
    torch.testing.assert_close(taken.cpu(), expected, atol=1e-5, rtol=0)
