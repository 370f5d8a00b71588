"""Faults that were planted to see whether the contract finds them; each once went unseen."""

import inspect
from dataclasses import replace

import pytest
from tampered import prepared, with_rows

from vg_engine.model_adapters.families.llava import LlavaAdapter
from vg_engine.model_adapters.families.qwen2_vl import Qwen2VLAdapter
from vg_engine.model_adapters.shared import capture
from vg_engine.testing import AdapterContract, ContractError, open_adapter, side_effects
from vg_engine.testing.tiny import tiny_llava
from vg_engine.testing.tiny_qwen import tiny_qwen2_vl


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    root = tmp_path_factory.mktemp("faults")
    return {
        LlavaAdapter: tiny_llava(root / "llava", layers=3),
        Qwen2VLAdapter: tiny_qwen2_vl(root / "qwen", layers=3),
    }


BOTH = pytest.mark.parametrize("base", [LlavaAdapter, Qwen2VLAdapter])
# Tests of the contract.
ANOTHER, PADDING = "test_nothing_is_kept_of_another_picture", "test_padding_changes_nothing"
CELLS = "test_cells_lie_where_they_are_said_to_lie"


def run(test, adapter_class, folder):
    """One test of the contract on an adapter."""

    class Contract(AdapterContract):
        adapter = adapter_class

    contract, opened = Contract(), []

    def sides():
        opened.extend(contract.open(folder, **side) for side in contract.padding)
        return tuple(opened)

    known = {
        "folder": lambda: folder,
        "sides": sides,
        "opened": lambda: sides()[0],
        "eager": lambda: contract.load_plain(folder, "eager"),
        "chosen_probes": lambda: contract.probes,
        "record_property": lambda: lambda *_: None,
    }
    check = getattr(contract, test)
    try:
        check(**{name: known[name]() for name in inspect.signature(check).parameters})
    finally:
        for each in opened:
            each.model.close()


def finds(test, adapter_class, folder, match):
    with pytest.raises(ContractError, match=match):
        run(test, adapter_class, folder)


@BOTH
def test_a_picture_that_is_kept_by_its_size(folders, base):
    kept = {}

    def stale(inputs):
        pixels = kept.setdefault(inputs.sizes, inputs.tensors["pixel_values"])
        return replace(inputs, tensors={**inputs.tensors, "pixel_values": pixels})

    finds(ANOTHER, prepared(stale, base), folders[base], "the very same rows")


def test_rows_that_are_kept_by_the_prompt(folders):
    kept = {}

    class Stale(LlavaAdapter):
        def vg_extract_attention(self, model, inputs, request):
            asked = id(model.module), inputs.rendered, inputs.sizes, request
            if asked not in kept:
                kept[asked] = super().vg_extract_attention(model, inputs, request)
            return kept[asked]

    finds(ANOTHER, Stale, folders[LlavaAdapter], "very same rows")


@pytest.mark.parametrize(
    ("base", "test", "description"),
    [
        (LlavaAdapter, PADDING, "differ by .* alone"),
        (Qwen2VLAdapter, PADDING, "differ by .* alone"),
        # The axes of a turned picture.
        (Qwen2VLAdapter, "test_positions_are_the_models_own", "left to the model"),
    ],
)
def test_positions_that_are_kept_by_shape(folders, base, test, description):
    kept = {}

    class Stale(base):
        def position_ids(self, model, tensors):
            shape = id(model.module), tensors["input_ids"].shape
            return kept.setdefault(shape, super().position_ids(model, tensors))

    finds(test, Stale, folders[base], description)


@BOTH
def test_pictures_taken_in_the_order_of_the_expressions(folders, base):
    class ByNumber(base):
        def _process(self, model, images, expressions, places):
            taken = [each._replace(scene=i % len(images)) for i, each in enumerate(expressions)]
            return super()._process(model, images, taken, places)

    # Where pictures make unlike numbers of tokens, the adapter's own count finds it first.
    with pytest.raises(Exception, match=r"not accounted|differ by|expected .* tokens"):
        run(PADDING, ByNumber, folders[base])


def test_views_of_the_first_picture_for_all(folders):
    class First(LlavaAdapter):
        def vg_locate_image_tokens(self, model, inputs):
            first = (inputs.sizes[0],) * len(inputs.sizes)
            return super().vg_locate_image_tokens(model, replace(inputs, sizes=first))

    finds(PADDING, First, folders[LlavaAdapter], "views of a batch")


@BOTH
def test_views_that_do_not_count_padding(folders, base):
    class Uncounted(base):
        def vg_locate_image_tokens(self, model, inputs):
            located = super().vg_locate_image_tokens(model, inputs)
            mask = inputs.tensors["attention_mask"]
            before = [int((mask[query.sequence].cumsum(0) == 0).sum()) for query in inputs.queries]
            return [[v.shifted(-n) for v in vs] for vs, n in zip(located, before, strict=True)]

    finds(PADDING, Uncounted, folders[base], "views of a batch")


def test_rows_in_another_order_than_asked_for(folders):
    class Sorted(LlavaAdapter):
        def vg_extract_attention(self, model, inputs, request):
            found = super().vg_extract_attention(model, inputs, request)
            order = sorted(range(len(request.heads)), key=lambda at: request.heads[at])
            return replace(found, rows=tuple(rows[order] for rows in found.rows))

    finds("test_leaves_early", Sorted, folders[LlavaAdapter], "leaving early changes the rows")


@BOTH
@pytest.mark.parametrize("kind", ["expression_all", "prompt_last"])
def test_other_rows_than_those_of_their_kind(folders, base, kind):
    class Before(base):
        def vg_prepare_inputs(self, model, scenes, expressions, prompt):
            inputs = super().vg_prepare_inputs(model, scenes, expressions, prompt)
            if prompt.query_row != kind:
                return inputs
            return with_rows(inputs, lambda query: [row - 1 for row in query.rows])

    finds("test_expressions_end_as_they_should", Before, folders[base], f"rows of {kind} are")


def changed(name, change):
    """The maths of rows, given something else for one of its arguments."""
    own = capture.attention_rows

    def rows(query, key, rows, **options):
        given = {"query": query, "key": key, "rows": rows, **options}
        return own(**{**given, name: change(given[name], query)})

    return rows


@BOTH
@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("scale", lambda scale, _: scale * 1.001),
        ("heads", lambda heads, _: heads[::-1]),
        # Key heads one after the other, not each as often as it has queries.
        ("key", lambda key, query: key.repeat(1, query.shape[1] // key.shape[1], 1, 1)),
        ("rows", lambda rows, _: (rows - 1).clamp(min=0)),
        ("mask", lambda mask, _: mask.roll(1, 0)),
        ("mask", lambda *_: None),
    ],
    ids=["scale", "head order", "key groups", "row before", "other's mask", "no mask"],
)
def test_maths_of_something_else(folders, base, name, change, monkeypatch):
    monkeypatch.setattr(capture, "attention_rows", changed(name, change))
    finds("test_rows_equal_eager_rows", base, folders[base], "padding takes|differ from eager")


def squashed(grid, frame):
    """What was cropped."""
    return grid._replace(frame=frame.resize(grid.frame.width, grid.frame.height))


def larger(grid, _):
    """By a twentieth, to the right."""
    shown = grid.frame
    return grid._replace(frame=shown.crop(0.0, 0.0, 1.05 * shown.width, shown.height))


@pytest.mark.parametrize(("base", "change"), [(LlavaAdapter, squashed), (Qwen2VLAdapter, larger)])
def test_grids_that_lie_elsewhere(folders, base, change):
    class Changed(base):
        def grids(self, model, frame):
            return [change(grid, frame) for grid in super().grids(model, frame)]

    finds(CELLS, Changed, folders[base], "cells are wrong")


def test_strips_may_be_refused_and_ordinary_pictures_may_not(folders):
    opened = open_adapter(LlavaAdapter(), str(folders[LlavaAdapter]))
    least = 30

    class Picky(type(opened)):
        def prepare(self, pictures, expressions, prompt=None):
            if min(pictures[0].size) < least:
                raise side_effects.PictureError("too small")
            return super().prepare(pictures, expressions, prompt)

    picky = Picky(opened.hooks, opened.model)
    assert len(side_effects.check_tokens(picky)[1]) == 5
    least = 400
    with pytest.raises(ContractError, match="1 of 7 pictures are refused: too small"):
        side_effects.check_tokens(picky)
    opened.model.close()
