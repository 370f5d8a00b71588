"""The conformance kit fails where an adapter is wrong, and says what and where."""

import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from tampered import Keeps, extracted, moved, prepared, transposed, with_mask, with_rows
from transformers import AutoModelForImageTextToText
from transformers.masking_utils import AttentionMaskInterface

from vg_engine.core.contract.inputs import AttentionRequest
from vg_engine.core.contract.prompt import Prompt
from vg_engine.core.geometry import Affine
from vg_engine.core.heads import Head
from vg_engine.model_adapters.families.internvl import InternVLAdapter
from vg_engine.model_adapters.families.llava import LlavaAdapter
from vg_engine.model_adapters.shared import capture
from vg_engine.testing import (
    AdapterContract,
    ContractError,
    Golden,
    open_adapter,
    paint,
    parity,
    side_effects,
)
from vg_engine.testing.tiny import tiny_internvl, tiny_llava


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    root = tmp_path_factory.mktemp("kit")
    return {
        LlavaAdapter: str(tiny_llava(root / "llava", layers=3)),
        InternVLAdapter: str(tiny_internvl(root / "internvl", layers=2)),
    }


@pytest.fixture
def llava(folders):
    return folders[LlavaAdapter]


def eager(folder):
    return AutoModelForImageTextToText.from_pretrained(
        folder, attn_implementation="eager", dtype=torch.float32
    ).eval()


def compared(adapter, folder):
    opened = open_adapter(adapter(), folder)
    return parity.compare(opened, eager(folder), parity.batch(opened, Prompt()))


def probed(adapter, folder, shapes=((200, 200), (300, 170)), **options):
    opened = open_adapter(adapter(), folder)
    paint.unmix(opened.model.module.model.vision_tower)
    return paint.probe(opened, paint.embeddings, shapes, **options)


def test_mask_function_that_is_not_registered_is_found(llava, monkeypatch):
    opened, reference = open_adapter(LlavaAdapter(), llava), eager(llava)
    inputs = parity.batch(opened, Prompt())
    parity.compare(opened, reference, inputs)
    monkeypatch.delitem(AttentionMaskInterface._global_mapping, capture.OVER_FUSED)
    with pytest.raises(ContractError, match="is the mask function registered"):
        parity.compare(opened, reference, inputs)


def one_later(views):
    return [view.shifted(1) for view in views]


def thumbnail_first(views):
    positions = [views[-1].positions, *(view.positions for view in views[:-1])]
    return [replace(v, positions=p) for v, p in zip(views, positions, strict=True)]


def by_columns(views):
    tiles = sorted(views[:-1], key=lambda view: view.name.split()[1].split(",")[::-1])
    changed = [replace(v, positions=t.positions) for v, t in zip(views, tiles, strict=False)]
    return [*changed, views[-1]]


@pytest.mark.parametrize(
    ("base", "change", "description"),
    [
        (LlavaAdapter, transposed, "cells are wrong: 200 x 200, picture: painted"),
        (LlavaAdapter, one_later, "moved most"),
        (InternVLAdapter, thumbnail_first, "cells are wrong"),
        (InternVLAdapter, by_columns, "nothing moved in this view"),
    ],
)
def test_views_elsewhere_are_found(folders, base, change, description):
    with pytest.raises(ContractError, match=description):
        probed(moved(change, base), folders[base]).check()


@pytest.mark.parametrize("by", [-0.2, 0.2])
@pytest.mark.parametrize("axis", [0, 1])
def test_a_grid_that_is_a_fifth_of_a_cell_off_is_found(llava, by, axis):
    """Painting the middles of cells would not see it."""

    def shifted(views):
        (view,) = views
        scale, offset = view.to_original.scale, list(view.to_original.offset)
        offset[axis] += by * scale[axis]
        return [replace(view, to_original=Affine(scale, tuple(offset)))]

    with pytest.raises(ContractError, match="cells are wrong"):
        probed(moved(shifted), llava).check()
    probed(moved(shifted), llava, strips=False).check()


def test_geometry_of_the_other_kind_is_found(llava):
    class ClaimsToPad(LlavaAdapter):
        def grids(self, model, frame):
            side = max(frame.width, frame.height)
            left, top = (side - frame.width) // 2, (side - frame.height) // 2
            square = frame.pad(left, top, side - frame.width - left, side - frame.height - top)
            return [super().grids(model, frame)[0]._replace(frame=square)]

    with pytest.raises(ContractError, match="300 x 170"):
        probed(ClaimsToPad, llava).check()


def test_views_without_pixels_to_paint_are_told(llava):
    report = probed(LlavaAdapter, llava, [(3, 3)])
    with pytest.raises(ContractError, match=r"only 0 of .* could be scored.*holds no whole pixel"):
        report.check()


def sees_padding(inputs):
    return with_mask(inputs, torch.ones_like)


def without_padding(inputs):
    pads = (inputs.tensors["attention_mask"] == 0).sum(-1)
    return with_rows(inputs, lambda query: [row - int(pads[query.sequence]) for row in query.rows])


@pytest.mark.parametrize(
    ("change", "side", "description"),
    [
        (sees_padding, "left", "padding is not accounted for"),
        (sees_padding, "right", "padding is not accounted for"),
        (without_padding, "left", "rows are counted without it"),
    ],
)
def test_padding_that_is_forgotten_is_found(llava, change, side, description):
    opened = open_adapter(prepared(change)(), llava, options={"padding_side": side})
    with pytest.raises(ContractError, match=description):
        parity.check_alone(opened, Prompt())


def test_missing_mask_is_found(llava):
    def without_mask(inputs):
        kept = {n: t for n, t in inputs.tensors.items() if n != "attention_mask"}
        return replace(inputs, tensors=kept)

    with pytest.raises(ContractError, match="no attention_mask"):
        compared(prepared(without_mask), llava)


def test_row_before_the_full_stop_is_found(llava):
    before = prepared(lambda inputs: with_rows(inputs, lambda query: [query.rows[0] - 1]))
    with pytest.raises(ContractError, match="the row stands at"):
        side_effects.check_unusual_expressions(open_adapter(before(), llava))


@pytest.mark.parametrize(
    ("off", "loses", "description"),
    [
        (1.5e-5, 5e-6, None),
        (1.5e-5, None, "allowed: 1e-05; it does not run in float64"),
        (3e-5, 5e-6, "allowed: 2e-05; float32 loses 5e-06"),
        # However badly a processor rounds, a wrong capture is one.
        (1e-4, 1.0, "allowed: 5e-05; float32 loses 1e\\+00"),
        (1e-4, "measured", "differ from eager attention by 0.0001.* at L"),
    ],
)
def test_what_float32_itself_loses_is_allowed_for(llava, monkeypatch, off, loses, description):
    def change(rows):
        rows[5, 0, -1] += off
        return rows

    if loses != "measured":
        monkeypatch.setattr(parity, "rounding", lambda *_, **__: loses)
    if description:
        with pytest.raises(ContractError, match=description):
            compared(extracted(change), llava)
    else:
        assert compared(extracted(change), llava).rounding == loses


def test_rounding_is_measured_against_float64(llava):
    opened, reference = open_adapter(LlavaAdapter(), llava), eager(llava)
    inputs = parity.batch(opened, Prompt())
    rows = parity.eager_rows(opened, reference, inputs)
    lost = parity.rounding(opened, reference, inputs, rows)
    assert 1e-8 < lost < parity.TOLERANCE
    assert {row.dtype for row in rows} == {reference.dtype} == {torch.float32}
    # A precision that is fixed somewhere inside.
    fixed = torch.nn.Linear(4, 4)
    reference.model.multi_modal_projector.register_forward_hook(
        lambda *given: given[-1] if given[-1].dtype == torch.float32 else fixed(given[-1])
    )
    assert parity.eager_rows(opened, reference, inputs)
    assert parity.rounding(opened, reference, inputs, rows) is None


def test_rows_of_every_kind_are_compared_in_one_pass(llava):
    opened = open_adapter(LlavaAdapter(), llava)
    prompts = [Prompt(query_row=row) for row in ("expression_all", "prompt_last")]
    kinds = [parity.batch(opened, prompt) for prompt in prompts]
    (one,) = parity.joined(kinds)
    for query, *others in zip(one.queries, *(each.queries for each in kinds), strict=True):
        assert set(query.rows) == {row for other in others for row in other.rows}
    other = parity.batch(opened, Prompt("chat"))
    assert parity.joined([*kinds, other])[1] is other


def test_flat_rows_are_refused(tmp_path):
    found = compared(LlavaAdapter, str(tiny_llava(tmp_path / "flat", sharpness=1.0, layers=2)))
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
    untouched = dict.fromkeys(side_effects.implementations(eager(llava)), "sdpa")
    side_effects.check_vision_alone(opened, untouched)
    opened.model.module.set_attn_implementation(capture.OVER_FUSED)
    with pytest.raises(ContractError, match="for the language model alone"):
        side_effects.check_vision_alone(opened, untouched)


def test_model_that_is_not_given_back_is_found(llava):
    module = eager(llava)
    found = side_effects.Found.of(module)
    processor = open_adapter(LlavaAdapter(), llava).model.processor
    open_adapter(Keeps(), "", module=module, processor=processor).model.close()
    with pytest.raises(ContractError, match="implementations are not as they were found"):
        found.check(module)


def test_state_shared_by_threads_is_found(llava):
    class Shares(LlavaAdapter):
        last = None

        def vg_extract_attention(self, model, inputs, request):
            self.last = inputs
            time.sleep(0.1)  # long enough for a busy machine
            return super().vg_extract_attention(model, self.last, request)

    with pytest.raises(ContractError, match="thread"):
        side_effects.check_threads(open_adapter(Shares(), llava))


def test_heads_that_are_counted_from_the_first_are_found(llava):
    """Of a layer of which some heads are asked for, the first so many are answered."""

    class First(LlavaAdapter):
        def vg_extract_attention(self, model, inputs, request):
            layers = [head.layer for head in request.heads]
            first = [Head(layer, layers[:place].count(layer)) for place, layer in enumerate(layers)]
            whole = set(request.heads) >= {head for head in model.all_heads if head.layer == 0}
            taken = request if whole else AttentionRequest(tuple(first))
            return replace(super().vg_extract_attention(model, inputs, taken), heads=request.heads)

    opened = open_adapter(First(), llava)
    with pytest.raises(ContractError, match="asking for some heads of a layer changes the rows"):
        parity.check_early_exit(opened, list(opened.model.module.model.language_model.layers))


def test_state_kept_between_two_hooks_is_found(llava):
    class Remembers(LlavaAdapter):
        sizes = ()

        def vg_prepare_inputs(self, model, scenes, expressions, prompt):
            self.sizes = tuple(scene.picture.size for scene in scenes)
            return super().vg_prepare_inputs(model, scenes, expressions, prompt)

        def vg_locate_image_tokens(self, model, inputs):
            return super().vg_locate_image_tokens(model, replace(inputs, sizes=self.sizes))

    with pytest.raises(ContractError, match="kept between vg_prepare_inputs and"):
        parity.check_memory(open_adapter(Remembers(), llava))


@pytest.mark.parametrize(
    ("forms", "description"),
    [(("bare", "chat"), "bare prompt of 'it': text\nexpected 'another text'"), ((), "both forms")],
)
def test_golden_prompts_are_compared_and_asked_for_in_both_forms(llava, forms, description):
    class TestGolden(AdapterContract):
        adapter = LlavaAdapter
        golden = tuple(Golden("it", Prompt(form), "another text", (), ()) for form in forms)

    with pytest.raises(ContractError, match=description):
        TestGolden().test_golden_prompts(open_adapter(LlavaAdapter(), llava))


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
