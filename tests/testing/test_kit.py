"""The conformance kit fails where an adapter is wrong, and says what and where."""

import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForImageTextToText
from transformers.masking_utils import AttentionMaskInterface

from vg_engine.core.contract.inputs import AttentionRequest
from vg_engine.core.contract.prompt import Prompt
from vg_engine.core.geometry import Affine
from vg_engine.model_adapters.families.internvl import InternVLAdapter
from vg_engine.model_adapters.families.llava import LlavaAdapter
from vg_engine.model_adapters.shared import capture
from vg_engine.testing import (
    AdapterContract,
    ContractError,
    Golden,
    conduct,
    open_adapter,
    paint,
    parity,
)
from vg_engine.testing.tiny import tiny_internvl, tiny_llava

SHAPES = ((200, 200), (300, 170))


@pytest.fixture(scope="module")
def llava(tmp_path_factory):
    return str(tiny_llava(tmp_path_factory.mktemp("kit") / "llava", layers=3))


@pytest.fixture(scope="module")
def internvl(tmp_path_factory):
    return str(tiny_internvl(tmp_path_factory.mktemp("kit") / "internvl", layers=2))


def eager(folder):
    return AutoModelForImageTextToText.from_pretrained(
        folder, attn_implementation="eager", dtype=torch.float32
    ).eval()


def probed(adapter, folder):
    opened = open_adapter(adapter, folder)
    paint.unmix(opened.model.module.model.vision_tower)
    return paint.probe(opened, paint.embeddings, SHAPES)


def moved_views(base, change):
    """An adapter whose views have been tampered with."""

    class Tampered(base):
        def vg_locate_image_tokens(self, model, inputs):
            located = super().vg_locate_image_tokens(model, inputs)
            return [change(views) for views in located]

    return Tampered()


def test_mask_function_that_is_not_registered_is_found(llava, monkeypatch):
    opened, reference = open_adapter(LlavaAdapter(), llava), eager(llava)
    inputs = parity.batch(opened, Prompt())
    parity.compare(opened, reference, inputs)
    monkeypatch.delitem(AttentionMaskInterface._global_mapping, capture.OVER_FUSED)
    with pytest.raises(ContractError, match="is the mask function registered"):
        parity.compare(opened, reference, inputs)


def test_transposed_grid_is_found(llava):
    report = probed(
        moved_views(
            LlavaAdapter, lambda views: [replace(v, positions=v.positions.T) for v in views]
        ),
        llava,
    )
    with pytest.raises(ContractError, match="cells are wrong: 200 x 200, picture: painted"):
        report.check()


def test_off_by_one_token_is_found(llava):
    report = probed(
        moved_views(LlavaAdapter, lambda views: [v.shifted(1) for v in views]),
        llava,
    )
    with pytest.raises(ContractError, match="moved most"):
        report.check()


def test_thumbnail_taken_for_the_first_tile_is_found(internvl):
    def thumbnail_first(views):
        positions = [views[-1].positions, *(view.positions for view in views[:-1])]
        return [replace(v, positions=p) for v, p in zip(views, positions, strict=True)]

    with pytest.raises(ContractError, match="cells are wrong"):
        probed(moved_views(InternVLAdapter, thumbnail_first), internvl).check()


def test_tiles_taken_column_by_column_are_found(internvl):
    def by_columns(views):
        tiles = sorted(views[:-1], key=lambda view: view.name.split()[1].split(",")[::-1])
        moved = [replace(v, positions=t.positions) for v, t in zip(views, tiles, strict=False)]
        return [*moved, views[-1]]

    with pytest.raises(ContractError, match="nothing moved in this view"):
        probed(moved_views(InternVLAdapter, by_columns), internvl).check()


def test_geometry_of_the_other_kind_is_found(llava):
    class ClaimsToPad(LlavaAdapter):
        def grids(self, model, frame):
            side = max(frame.width, frame.height)
            left, top = (side - frame.width) // 2, (side - frame.height) // 2
            square = frame.pad(left, top, side - frame.width - left, side - frame.height - top)
            return [replace_frame(super().grids(model, frame)[0], square)]

    def replace_frame(grid, frame):
        return grid._replace(frame=frame)

    with pytest.raises(ContractError, match="300 x 170"):
        probed(ClaimsToPad(), llava).check()


def test_views_without_pixels_to_paint_are_told(llava):
    opened = open_adapter(LlavaAdapter(), llava)
    paint.unmix(opened.model.module.model.vision_tower)
    report = paint.probe(opened, paint.embeddings, [(3, 3)])
    with pytest.raises(ContractError, match=r"only 0 of .* could be scored.*holds no whole pixel"):
        report.check()


@pytest.mark.parametrize("side", ["left", "right"])
def test_padding_that_takes_part_is_found(llava, side):
    class SeesPadding(LlavaAdapter):
        def vg_prepare_inputs(self, model, scenes, expressions, prompt):
            inputs = super().vg_prepare_inputs(model, scenes, expressions, prompt)
            mask = torch.ones_like(inputs.tensors["attention_mask"])
            return replace(inputs, tensors={**inputs.tensors, "attention_mask": mask})

    opened = open_adapter(SeesPadding(), llava, options={"padding_side": side})
    with pytest.raises(ContractError, match="padding is not accounted for"):
        parity.check_alone(opened, Prompt())


def test_missing_mask_is_found(llava):
    class NoMask(LlavaAdapter):
        def vg_prepare_inputs(self, model, scenes, expressions, prompt):
            inputs = super().vg_prepare_inputs(model, scenes, expressions, prompt)
            kept = {n: t for n, t in inputs.tensors.items() if n != "attention_mask"}
            return replace(inputs, tensors=kept)

    opened = open_adapter(NoMask(), llava)
    with pytest.raises(ContractError, match="no attention_mask"):
        parity.compare(opened, eager(llava), parity.batch(opened, Prompt()))


def test_rows_counted_without_padding_are_found(llava):
    class CountsFromZero(LlavaAdapter):
        def vg_prepare_inputs(self, model, scenes, expressions, prompt):
            inputs = super().vg_prepare_inputs(model, scenes, expressions, prompt)
            pads = (inputs.tensors["attention_mask"] == 0).sum(-1)
            queries = tuple(
                replace(query, rows=tuple(row - int(pads[query.sequence]) for row in query.rows))
                for query in inputs.queries
            )
            return replace(inputs, queries=queries)

    opened = open_adapter(CountsFromZero(), llava)
    with pytest.raises(ContractError, match="rows are counted without it"):
        parity.check_alone(opened, Prompt())


def test_row_before_the_full_stop_is_found(llava):
    class MinusOne(LlavaAdapter):
        def vg_prepare_inputs(self, model, scenes, expressions, prompt):
            inputs = super().vg_prepare_inputs(model, scenes, expressions, prompt)
            queries = tuple(replace(q, rows=(q.rows[0] - 1,)) for q in inputs.queries)
            return replace(inputs, queries=queries)

    with pytest.raises(ContractError, match="the row stands at"):
        conduct.check_unusual_expressions(open_adapter(MinusOne(), llava))


def test_rows_that_are_not_the_models_are_found(llava):
    class OtherScale(LlavaAdapter):
        def vg_extract_attention(self, model, inputs, request):
            rows = super().vg_extract_attention(model, inputs, request)
            return replace(rows, rows=tuple(r * 0.999 for r in rows.rows))

    opened = open_adapter(OtherScale(), llava)
    with pytest.raises(ContractError, match=r"differ from eager attention by .* at L"):
        parity.compare(opened, eager(llava), parity.batch(opened, Prompt()))


@pytest.mark.parametrize(
    ("off", "loses", "said"),
    [
        (1.5e-5, 5e-6, None),
        (1.5e-5, None, "allowed: 1e-05; it does not run in float64"),
        (3e-5, 5e-6, "allowed: 2e-05; float32 loses 5e-06"),
        # However badly a processor rounds, a wrong capture is one.
        (1e-4, 1.0, "allowed: 5e-05; float32 loses 1e\\+00"),
        (1e-4, "measured", "differ from eager attention by 0.0001"),
    ],
)
def test_what_float32_itself_loses_is_allowed_for(llava, monkeypatch, off, loses, said):
    class Off(LlavaAdapter):
        def vg_extract_attention(self, model, inputs, request):
            rows = super().vg_extract_attention(model, inputs, request)
            rows.rows[0][5, 0, -1] += off
            return rows

    if loses != "measured":
        monkeypatch.setattr(parity, "rounding", lambda *_, **__: loses)
    opened = open_adapter(Off(), llava)
    inputs = parity.batch(opened, Prompt())
    if said:
        with pytest.raises(ContractError, match=said):
            parity.compare(opened, eager(llava), inputs)
    else:
        assert parity.compare(opened, eager(llava), inputs).rounding == loses


def test_rounding_is_measured_against_float64(llava):
    opened, reference = open_adapter(LlavaAdapter(), llava), eager(llava)
    inputs = parity.batch(opened, Prompt())
    rows = parity.eager_rows(opened, reference, inputs)
    lost = parity.rounding(opened, reference, inputs, rows)
    assert 1e-8 < lost < parity.TOLERANCE
    assert {row.dtype for row in rows} == {torch.float32}
    assert reference.dtype == torch.float32
    # A precision that is fixed somewhere inside.
    fixed = torch.nn.Linear(4, 4)
    reference.model.multi_modal_projector.register_forward_hook(
        lambda *given: given[-1] if given[-1].dtype == torch.float32 else fixed(given[-1])
    )
    assert parity.eager_rows(opened, reference, inputs)
    assert parity.rounding(opened, reference, inputs, rows) is None


def test_rows_of_every_kind_are_compared_in_one_pass(llava):
    opened = open_adapter(LlavaAdapter(), llava)
    kinds = [
        parity.batch(opened, Prompt(query_row=row)) for row in ("expression_all", "prompt_last")
    ]
    (one,) = parity.joined(kinds)
    for query, *others in zip(one.queries, *(each.queries for each in kinds), strict=True):
        assert set(query.rows) == {row for other in others for row in other.rows}
    other = parity.batch(opened, Prompt("chat"))
    assert parity.joined([*kinds, other])[1] is other


def test_flat_rows_are_refused(tmp_path):
    folder = str(tiny_llava(tmp_path / "flat", sharpness=1.0, layers=2))
    opened = open_adapter(LlavaAdapter(), folder)
    found = parity.compare(opened, eager(folder), parity.batch(opened, Prompt()))
    with pytest.raises(ContractError, match="sharpen the checkpoint"):
        parity.check_sharp([found])


def test_running_every_layer_is_found(llava):
    class NeverLeaves(LlavaAdapter):
        def vg_extract_attention(self, model, inputs, request):
            full = super().vg_extract_attention(model, inputs, AttentionRequest(model.all_heads))
            kept = [model.all_heads.index(head) for head in request.heads]
            return replace(full, heads=request.heads, rows=tuple(r[kept] for r in full.rows))

    opened = open_adapter(NeverLeaves(), llava)
    with pytest.raises(ContractError, match=r"layers .* ran for rows of layers 0 to 0"):
        parity.check_early_exit(opened, list(opened.model.module.model.language_model.layers))


def test_vision_tower_that_was_switched_too_is_found(llava):
    opened = open_adapter(LlavaAdapter(), llava)
    untouched = conduct.implementations(eager(llava))
    untouched = dict.fromkeys(untouched, "sdpa")
    conduct.check_vision_alone(opened, untouched)
    opened.model.module.set_attn_implementation(capture.OVER_FUSED)
    with pytest.raises(ContractError, match="for the language model alone"):
        conduct.check_vision_alone(opened, untouched)


def test_model_that_is_not_given_back_is_found(llava):
    class Keeps(LlavaAdapter):
        def vg_load_model(self, spec):
            return replace(super().vg_load_model(spec), close=lambda: None)

    module = eager(llava)
    found = conduct.Found.of(module)
    processor = open_adapter(LlavaAdapter(), llava).model.processor
    open_adapter(Keeps(), "", module=module, processor=processor).model.close()
    with pytest.raises(ContractError, match="implementations are not as they were found"):
        found.check(module)


def test_state_shared_by_threads_is_found(llava):
    class Shares(LlavaAdapter):
        last = None

        def vg_extract_attention(self, model, inputs, request):
            self.last = inputs
            time.sleep(0.02)
            return super().vg_extract_attention(model, self.last, request)

    with pytest.raises(ContractError, match="thread"):
        conduct.check_threads(open_adapter(Shares(), llava))


def test_prompt_that_changed_is_found(llava):
    class TestChanged(AdapterContract):
        adapter = LlavaAdapter
        golden = (
            Golden("it", Prompt(), "another text", (), ()),
            Golden("it", Prompt("chat"), "another text", (), ()),
        )

    opened = open_adapter(LlavaAdapter(), llava)
    with pytest.raises(ContractError, match="bare prompt of 'it': text\nexpected 'another text'"):
        TestChanged().test_golden_prompts(opened)


def test_golden_prompts_are_asked_for_in_both_forms(llava):
    class TestNone(AdapterContract):
        adapter = LlavaAdapter

    with pytest.raises(ContractError, match="both forms"):
        TestNone().test_golden_prompts(open_adapter(LlavaAdapter(), llava))


def test_few_shapes_are_not_enough(llava):
    class TestSquares(AdapterContract):
        adapter = LlavaAdapter
        shapes = ((64, 64), (128, 128), (64, 64), (100, 50), (50, 100))

    with pytest.raises(ContractError, match="4 shapes are painted, fewer than five"):
        TestSquares().test_cells_lie_where_they_are_said_to_lie(Path(llava), "few", lambda *_: None)


def test_tower_without_attention_cannot_be_unmixed():
    with pytest.raises(ContractError, match="override `unmix`"):
        paint.unmix(torch.nn.Sequential(torch.nn.Linear(2, 2)))


def test_kit_is_not_imported_by_the_engine():
    root = Path(__file__).resolve().parents[2]
    rooms = ("core", "plugins", "model_adapters", "registry", "src/vg_engine")
    files = {path.resolve() for room in rooms for path in (root / room).rglob("*.py")}
    inside = {path for path in files if path.parent.name == "testing"}
    naming = {path for path in files if "vg_engine.testing" in path.read_text(encoding="utf-8")}
    # `doctor` runs the checks on users' checkpoints; nothing else of the engine knows the kit.
    door = root / "src/vg_engine"
    assert naming <= inside | {door / "checkpoints.py", door / "cli/doctor.py"}
    assert len(files) > len(inside) > 0


def test_the_doctor_needs_no_pytest():
    code = "import sys, vg_engine.testing.doctor; sys.exit('pytest' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize("by", [-0.2, 0.2])
@pytest.mark.parametrize("axis", [0, 1])
def test_a_grid_that_is_a_fifth_of_a_cell_off_is_found(llava, by, axis):
    """Painting the middles of cells would not see it."""

    def shifted(views):
        moved = []
        for view in views:
            affine = view.to_original
            offset = list(affine.offset)
            offset[axis] += by * affine.scale[axis]
            moved.append(replace(view, to_original=Affine(affine.scale, tuple(offset))))
        return moved

    adapter = moved_views(LlavaAdapter, shifted)
    with pytest.raises(ContractError, match="cells are wrong"):
        probed(adapter, llava).check()
    opened = open_adapter(adapter, llava)
    paint.unmix(opened.model.module.model.vision_tower)
    paint.probe(opened, paint.embeddings, SHAPES, strips=False).check()
