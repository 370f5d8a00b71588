"""Masked rows against the plainest reading of the formula, over every kind of mask."""

import itertools
import math

import pytest
import torch

from vg_engine.core.attention import rows as rows_module
from vg_engine.core.attention.rows import attention_rows
from vg_engine.core.errors import CaptureError, HeadsError

BATCH, HEADS, KEYS_HEADS, LENGTH, DIM = 3, 6, 2, 11, 8
SCALE = 0.7
ROWS = torch.tensor([[10, 3], [5, 5], [0, 9]])
WANTED = [4, 0, 5]
EVERY = torch.ones(LENGTH, LENGTH, dtype=torch.bool)
CAUSAL = EVERY.tril()


@pytest.fixture
def tensors():
    generator = torch.Generator().manual_seed(1)
    query = torch.randn(BATCH, HEADS, LENGTH, DIM, generator=generator) * 2
    key = torch.randn(BATCH, KEYS_HEADS, LENGTH, DIM, generator=generator) * 2
    return query, key


def take(query, key, rows=ROWS, **settings):
    return attention_rows(query, key, rows, heads=WANTED, scale=SCALE, **settings)


def plain_row(query, keys, allowed, add, softcap, sink):
    """One row, number by number."""
    logits = []
    for one, seen, added in zip(keys, allowed, add, strict=True):
        value = float(query.double() @ one.double()) * SCALE
        if softcap is not None:
            value = softcap * math.tanh(value / softcap)
        logits.append(value + added if seen else -math.inf)
    top = max(*logits, sink)
    weights = [math.exp(value - top) for value in logits]
    total = sum(weights) + math.exp(sink - top)
    return torch.tensor([weight / total for weight in weights])


def check(taken, query, key, *, allowed=CAUSAL, add=None, rows=ROWS, softcap=None, sinks=None):
    """Compare with plain rows; `allowed` and `add` are over batch, heads, queries and keys."""
    every = (BATCH, HEADS, query.shape[2], LENGTH)
    allowed, add = allowed.expand(every), (torch.zeros(1) if add is None else add).expand(every)
    for s, (i, head), j in itertools.product(range(BATCH), enumerate(WANTED), range(rows.shape[1])):
        at = (s, head, int(rows[s, j]))
        sink = -math.inf if sinks is None else float(sinks[head])
        keys = key[s, head * KEYS_HEADS // HEADS]
        expected = plain_row(query[at], keys, allowed[at], add[at].tolist(), softcap, sink)
        torch.testing.assert_close(taken[s, i, j], expected, atol=2e-6, rtol=0)


def test_no_mask_is_causal_with_grouped_keys(tensors):
    taken = take(*tensors)
    check(taken, *tensors)
    assert taken.dtype == torch.float32
    check(take(*tensors, causal=False), *tensors, allowed=EVERY)


def test_offset_counts_keys_before_the_first_query(tensors):
    query, key = tensors
    late, rows = query[:, :, :4], torch.tensor([[2]] * BATCH)
    check(take(late, key, rows, offset=7), late, key, rows=rows, allowed=CAUSAL[7:])


@pytest.mark.parametrize("shape", [(BATCH, 1), (1, 1), (BATCH, HEADS), (1, HEADS)])
def test_boolean_masks_of_every_shared_shape(tensors, shape):
    mask = torch.rand(*shape, LENGTH, LENGTH + 2) < 0.6
    mask[..., 0] = True
    check(take(*tensors, mask=mask), *tensors, allowed=mask[..., :LENGTH])


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_additive_masks_in_every_precision(tensors, dtype):
    seen = torch.rand(BATCH, 1, LENGTH, LENGTH) < 0.6
    seen[..., 0] = True
    mask = torch.where(seen, torch.randn(seen.shape), torch.finfo(dtype).min).to(dtype)
    taken = take(*tensors, mask=mask)
    check(taken, *tensors, add=mask, allowed=seen)
    assert taken[..., 0].min() > 0
    at = seen[torch.arange(BATCH)[:, None], 0, ROWS]
    assert taken.permute(0, 2, 1, 3)[~at[:, :, None].expand(-1, -1, len(WANTED), -1)].max() == 0


def test_softcap_comes_before_the_mask_and_bias_with_it(tensors):
    mask, bias = CAUSAL[None, None], torch.randn(1, HEADS, LENGTH, LENGTH)
    check(take(*tensors, mask=mask, softcap=1.5), *tensors, softcap=1.5)
    check(take(*tensors, position_bias=bias), *tensors, add=bias)


def test_a_sink_takes_its_share_and_is_dropped(tensors):
    sinks = torch.linspace(-1, 4, HEADS)
    check(take(*tensors, sinks=sinks), *tensors, sinks=sinks)


def test_a_row_that_may_see_nothing_stays_finite(tensors):
    assert torch.isfinite(take(*tensors, mask=~EVERY[None, None])).all()


def test_half_precision_is_multiplied_in_float32(tensors):
    query, key = (tensor.to(torch.bfloat16) for tensor in tensors)
    expected = take(query.float(), key.float())
    assert torch.equal(take(query, key), expected)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(take(query, key), expected)


def test_chunks_change_nothing(tensors, monkeypatch):
    expected = take(*tensors)
    monkeypatch.setattr(rows_module, "CHUNK", 1)
    assert torch.equal(take(*tensors), expected)


def test_what_does_not_fit_is_refused(tensors):
    query, key = tensors
    with pytest.raises(HeadsError, match="heads 0 to 5"):
        attention_rows(query, key, ROWS, heads=[6], scale=SCALE)
    with pytest.raises(CaptureError, match="cannot share"):
        attention_rows(query[:, :5], key, ROWS, heads=[0], scale=SCALE)
    with pytest.raises(CaptureError, match="over 4 keys"):
        take(*tensors, mask=EVERY[None, None, :, :4])


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here")
def test_cuda_agrees_with_the_cpu(tensors):
    taken = take(*(t.cuda() for t in tensors), ROWS.cuda())
    torch.testing.assert_close(taken.cpu(), take(*tensors), atol=1e-5, rtol=0)
