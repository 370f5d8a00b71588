"""Hard case 4: several expressions packed behind one picture, kept apart by a block mask.

The adapter is what a third party would write over the shipped one: it changes what is prepared,
and neither the tokens' places nor the capture.
"""

from dataclasses import replace
from types import MappingProxyType
from typing import ClassVar, NamedTuple

import numpy as np
import pytest
import torch
from tampered import prepared as tampered
from tampered import with_mask

from vg_engine.core.contract.inputs import Expression, PreparedInputs
from vg_engine.core.contract.prompt import Prompt
from vg_engine.model_adapters.families.llava import LlavaAdapter
from vg_engine.model_adapters.shared.huggingface import VICUNA
from vg_engine.model_adapters.shared.prefix import PrefixAdapter
from vg_engine.testing import ContractError, noise, open_adapter, sharing
from vg_engine.testing.tiny import tiny_llava

# Two share their beginning with each other, one is asked twice, none is as long as another.
EXPRESSIONS = ("the red cup", "the dog on the far left", "it", "the red cup")
SIZES = ((160, 112), (112, 112))
ASKED = ((0, 0), (0, 1), (1, 2), (0, 2), (1, 1), (0, 3))  # picture, expression


class Pack(NamedTuple):
    """One sequence: tokens, their positions, who sees whom, where each expression's own begin."""

    tokens: torch.Tensor
    places: torch.Tensor
    seen: torch.Tensor
    starts: list[int]
    shared: int


class PackedLlavaAdapter(LlavaAdapter):
    """One sequence per picture: the longest common beginning once, then every expression's own."""

    name: ClassVar[str] = "llava-packed"

    def vg_load_model(self, spec):
        loaded = super().vg_load_model(spec)
        return replace(loaded, capabilities=replace(loaded.capabilities, packing=True))

    def vg_prepare_inputs(self, model, scenes, expressions, prompt):
        """Prepare each expression alone, and lay them behind one another."""
        prepare = super().vg_prepare_inputs
        alone = [
            prepare(model, [scenes[e.scene]], [Expression(0, e.text)], prompt) for e in expressions
        ]
        shown = sorted({e.scene for e in expressions})
        members = [[i for i, e in enumerate(expressions) if e.scene == scene] for scene in shown]
        # Behind a kept prefix the query axis begins where that ends, and the key axis does not.
        before = alone[0].queries[0].prefix_end or 0
        assert all((each.queries[0].prefix_end or 0) == before for each in alone)
        ids = [each.tensors["input_ids"][0] for each in alone]
        packs = [_pack([ids[i] for i in group]) for group in members]
        longest = max(len(pack.tokens) for pack in packs)
        # A token sees itself, and so does padding: a row without any key has no softmax.
        mask = torch.eye(longest, dtype=torch.bool).repeat(len(packs), 1, 1, 1)
        tensors = {
            "input_ids": torch.full((len(packs), longest), model.processor.tokenizer.pad_token_id),
            "position_ids": torch.zeros((len(packs), longest), dtype=torch.int64),
            "attention_mask": torch.cat((mask.new_ones(*mask.shape[:3], before), mask), dim=-1),
        }
        if not before:
            pictures = [alone[group[0]].tensors["pixel_values"] for group in members]
            tensors["pixel_values"] = torch.cat(pictures)
        queries = {}
        for sequence, (group, pack) in enumerate(zip(members, packs, strict=True)):
            inside = slice(len(pack.tokens))
            tensors["input_ids"][sequence, inside] = pack.tokens
            tensors["position_ids"][sequence, inside] = before + pack.places
            seen = tensors["attention_mask"][sequence, 0, inside, before:]
            seen[:, inside] = pack.seen
            for start, index in zip(pack.starts, group, strict=True):
                (query,) = alone[index].queries
                by = start - pack.shared
                rows = tuple(row + by * (row >= pack.shared) for row in query.rows)
                place = {"scene": expressions[index].scene, "sequence": sequence, "rows": rows}
                queries[index] = replace(query, **place, prefix_end=before + pack.shared)
        return PreparedInputs(
            tensors=MappingProxyType({name: t.to(model.device) for name, t in tensors.items()}),
            queries=tuple(queries[index] for index in range(len(expressions))),
            sizes=tuple(scene.picture.size for scene in scenes),
            context=alone[0].context,
        )


class PackedKeepingAdapter(PackedLlavaAdapter, PrefixAdapter):
    """Packs behind a kept prefix what is asked about its picture."""

    name: ClassVar[str] = "llava-packed-keeping"


def _pack(ids):
    shortest = min(map(len, ids))
    same = torch.stack([each[:shortest] == ids[0][:shortest] for each in ids]).all(0)
    shared = shortest if bool(same.all()) else int((~same).nonzero()[0])
    own = [each[shared:] for each in ids]
    starts = [shared + sum(map(len, own[:index])) for index in range(len(own))]
    # Block 0 is seen by all behind it, the others by themselves.
    sizes = torch.tensor([shared, *map(len, own)])
    block = torch.arange(len(sizes)).repeat_interleave(sizes)
    order = torch.arange(len(block))
    return Pack(
        tokens=torch.cat([ids[0][:shared], *own]),
        places=torch.cat([torch.arange(shared), *(shared + torch.arange(len(o)) for o in own)]),
        seen=(order[:, None] >= order) & ((block == 0) | (block[:, None] == block)),
        starts=starts,
        shared=shared,
    )


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tiny_llava(tmp_path_factory.mktemp("llava") / "tiny")


@pytest.fixture(scope="module")
def packed(folder, case_of):
    return case_of(PackedLlavaAdapter, folder)


@pytest.fixture(scope="module")
def unpacked(folder, case_of):
    return case_of(LlavaAdapter, folder)


def prompt_of(expression):
    return f"{VICUNA} <image>\n{expression}."


PICTURES = [noise(size, seed) for seed, size in enumerate(SIZES)]


def prepared(case, prompt=None):
    return case.prepared(PICTURES, [(image, EXPRESSIONS[text]) for image, text in ASKED], prompt)


def own_keys(inputs, query):
    """The keys that a query's last row may see, in their order."""
    seen = inputs.tensors["attention_mask"][query.sequence, 0, query.rows[-1]]
    return np.flatnonzero(seen.numpy())


def test_one_sequence_per_picture(packed):
    inputs = prepared(packed)
    assert [query.sequence for query in inputs.queries] == [image for image, _ in ASKED]
    assert len(inputs.tensors["input_ids"]) == len(inputs.tensors["pixel_values"]) == len(SIZES)
    before = len(prompt_of("")) - len("<image>\n.")  # one token per letter, and the picture's one
    for query, (view,) in zip(inputs.queries, packed.located(inputs), strict=True):
        assert query.prefix_end is not None
        assert view.positions.ravel().tolist() == list(range(before, before + 64))
        assert view.positions.max() < query.prefix_end
        # One token per letter: an expression's own tokens continue the shared ones' positions.
        own = own_keys(inputs, query)
        places = inputs.tensors["position_ids"][query.sequence].numpy()[own]
        assert places.tolist() == list(range(len(own)))
        letters = inputs.tensors["input_ids"][query.sequence][own[before + 64 :]]
        assert packed.engine.model.processor.tokenizer.decode(letters) == f"\n{query.expression}."


@pytest.mark.parametrize("row", ["expression_last", "expression_all"])
def test_rows_equal_those_of_the_unpacked_adapter(packed, unpacked, row):
    inputs, apart = (prepared(case, Prompt(query_row=row)) for case in (packed, unpacked))
    worst = sharpest = 0.0
    found = zip(inputs.queries, packed.rows(inputs), strict=True)
    expected = zip(apart.queries, unpacked.rows(apart), strict=True)
    for (query, rows), (other, alone) in zip(found, expected, strict=True):
        assert len(query.rows) == len(other.rows)
        own = own_keys(inputs, query)
        kept = apart.tensors["attention_mask"][other.sequence].numpy().astype(bool)
        alone = alone[..., kept][..., : len(own)]  # noqa: PLW2901 - without padding
        worst = max(worst, np.abs(rows[..., own] - alone).max())
        strangers = np.setdiff1d(np.arange(rows.shape[-1]), own)
        assert not rows[..., strangers].any()  # nothing of the neighbours', nothing on padding
        sharpest = max(sharpest, rows.max())
    print(f"packed, {row}: largest error {worst:.1e}, sharpest {sharpest:.2f}")
    assert worst < 1e-5
    assert sharpest > 0.8


def test_maps_equal_eager_attention_of_each_alone(packed):
    """Through `engine.maps` and `engine.ground`, asked together in one sequence."""
    token = packed.engine.model.processor.image_token_id
    texts = EXPRESSIONS[:3]
    worst = sharpest = 0.0
    for seed in range(3):
        picture = noise((112, 112), seed)
        maps, answers = packed.engine.maps(picture, texts), packed.engine.ground_all(picture, texts)
        for text, seen, answer in zip(texts, maps, answers, strict=True):
            ids = packed.tensors(picture, prompt_of(text))["input_ids"][0].numpy()
            expected = packed.eager(picture, prompt_of(text))[:, ids == token]
            chosen = [seen.heads.index(head) for head in answer.heads]
            combined = expected[chosen].sum(0).reshape(8, 8)
            for one, other in (
                (seen.maps.values.reshape(16, -1), expected),
                (seen.image_attention, expected.sum(1)),
                (answer.soft_map.values, combined),
            ):
                worst = max(worst, np.abs(one - other).max())
            row, col = divmod(int(combined.argmax()), 8)
            assert 14 * col <= answer.point[0] <= 14 * col + 14
            assert 14 * row <= answer.point[1] <= 14 * row + 14
            sharpest = max(sharpest, expected.max())
    print(f"packed, eager: largest error {worst:.1e}, sharpest {sharpest:.2f}")
    assert worst < 1e-5
    assert sharpest > 0.8


def test_streams_of_pictures_answer_as_without_packing(packed, unpacked):
    requests = [(PICTURES[image], EXPRESSIONS[text]) for image, text in ASKED]
    together, apart = (case.engine.ground_many(requests) for case in (packed, unpacked))
    for one, other in zip(together, apart, strict=True):
        assert one.expression == other.expression
        assert one.heads == other.heads
        assert np.abs(one.soft_map.values - other.soft_map.values).max() < 1e-5


def leaky(inputs):
    """Causal, and no more: whoever stands behind sees the expressions before."""
    return with_mask(inputs, lambda mask: torch.ones_like(mask).tril())


def test_without_the_block_mask_expressions_mix(packed):
    """The comparison above has teeth: under a causal mask alone the rows are others."""
    inputs = prepared(packed)
    both = zip(packed.rows(inputs), packed.rows(leaky(inputs)), strict=True)
    assert max(np.abs(apart - mixed).max() for apart, mixed in both) > 0.1


def test_the_kit_accepts_packing_and_finds_expressions_that_see_each_other(folder):
    opened = open_adapter(PackedLlavaAdapter(), str(folder))
    assert sharing.check_packing(opened) < sharing.TOLERANCE
    with pytest.raises(ContractError, match="packed differs from alone by"):
        sharing.check_packing(open_adapter(tampered(leaky, PackedLlavaAdapter)(), str(folder)))


@pytest.mark.parametrize("row", ["expression_last", "expression_all"])
def test_packed_behind_a_kept_prefix(folder, unpacked, case_of, row):
    """One pass of all expressions' own tokens, once the picture was encoded."""
    engine, prompt = case_of(PackedKeepingAdapter, folder).engine, Prompt(query_row=row)
    passes = []
    engine.model.module.get_decoder().layers[0].register_forward_pre_hook(
        lambda _, given: passes.append(tuple(given[0].shape[:2]))
    )
    worst = sharpest = 0.0
    for picture in PICTURES:
        expected = unpacked.engine.maps(picture, EXPRESSIONS, prompt=prompt)
        with engine.open(picture) as scene:
            for _ in range(2):
                found = scene.maps(EXPRESSIONS, prompt=prompt)
                for one, other in zip(found, expected, strict=True):
                    assert one.expression == other.expression
                    worst = max(worst, np.abs(one.maps.values - other.maps.values).max())
                    sharpest = max(sharpest, one.maps.values.max())
    prefix = len(prompt_of("")) - len("<image>.") + 64  # the newline behind the picture, too
    own = sum(len(text) + 1 for text in EXPRESSIONS)
    # "the red cup" twice, and others that begin alike: their common beginning is packed once.
    assert [count for _, count in passes[::3]] == [prefix] * len(SIZES)
    assert all(count <= own and sequences == 1 for sequences, count in passes[1::3])
    assert passes[1::3] == passes[2::3]
    print(f"packed behind a prefix, {row}: largest error {worst:.1e}, sharpest {sharpest:.2f}")
    assert worst < 1e-5
    assert sharpest > 0.4
