"""The doctor finds what is wrong, on the user's own weights, and leaves them as they were."""

from dataclasses import replace
from types import MappingProxyType

import numpy as np
import pytest
import torch
from transformers.masking_utils import AttentionMaskInterface

from vg_engine.core.contract.model import ModelSpec
from vg_engine.model_adapters.families.internvl import InternVLAdapter
from vg_engine.model_adapters.families.llava import LlavaAdapter
from vg_engine.model_adapters.shared import capture
from vg_engine.plugins.manager import make_hooks
from vg_engine.testing import Opened, doctor, open_adapter, paint
from vg_engine.testing.doctor import Finding, Patient, examine, rendered, summary
from vg_engine.testing.tiny import tiny_internvl, tiny_llava

CHECKS = 10


@pytest.fixture(scope="module")
def llava(tmp_path_factory):
    return str(tiny_llava(tmp_path_factory.mktemp("doctor") / "llava", layers=3))


def patient(adapter, folder, dtype="float32") -> Patient:
    hooks = make_hooks(adapter.name, adapter)
    model = hooks.load_model(ModelSpec(folder, device="cpu", dtype=dtype))
    return Patient(Opened(hooks, model), probes="few")


def findings(adapter, folder, dtype="float32") -> dict[str, Finding]:
    return {found.check: found for found in examine(patient(adapter, folder, dtype))}


def failed(found: dict[str, Finding]) -> set[str]:
    return {name for name, finding in found.items() if finding.status == "failed"}


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_sound_model_is_well_and_keeps_its_weights(llava, dtype):
    sound = patient(LlavaAdapter(), llava, dtype)
    module = sound.opened.model.module
    before = {name: value.clone() for name, value in module.state_dict().items()}
    found = {finding.check: finding for finding in examine(sound)}
    assert not failed(found), found
    assert len(found) == CHECKS
    wanted = {"ok": CHECKS} if dtype == "float32" else {"ok": CHECKS - 1, "skipped": 1}
    assert dict(summary(list(found.values()))) == wanted
    after = module.state_dict()
    assert all(torch.equal(value, after[name]) for name, value in before.items())


def test_tiles_are_well(tmp_path):
    folder = str(tiny_internvl(tmp_path / "internvl", layers=2))
    found = findings(InternVLAdapter(), folder)
    assert not failed(found), found
    assert "wrong" in found["cells (paint probe)"].said


def test_a_mask_that_is_not_registered_is_found(llava, monkeypatch):
    sick = patient(LlavaAdapter(), llava)
    monkeypatch.delitem(AttentionMaskInterface._global_mapping, capture.OVER_FUSED)
    assert {"padding", "rows equal eager attention"} <= failed(
        {finding.check: finding for finding in examine(sick)}
    )


def test_a_transposed_grid_is_found(llava):
    class Transposed(LlavaAdapter):
        def vg_locate_image_tokens(self, model, inputs):
            located = super().vg_locate_image_tokens(model, inputs)
            return [[replace(v, positions=v.positions.T) for v in views] for views in located]

    assert failed(findings(Transposed(), llava)) == {"cells (paint probe)"}


def test_wrong_positions_are_found(llava):
    class Late(LlavaAdapter):
        def position_ids(self, model, tensors):
            # Twice as far apart: rotations see differences alone, so a shift would do no harm.
            return 2 * super().position_ids(model, tensors)

    assert "rows equal eager attention" in failed(findings(Late(), llava))


def test_rows_of_other_heads_are_found_in_half_precision(llava):
    class Mixed(LlavaAdapter):
        def vg_extract_attention(self, model, inputs, request):
            rows = super().vg_extract_attention(model, inputs, request)
            return replace(rows, rows=tuple(row.roll(1, 0) for row in rows.rows))

    found = findings(Mixed(), llava, "bfloat16")
    assert "rows equal eager attention" in failed(found)
    assert "heads ranked alike" in found["rows equal eager attention"].said


def test_what_an_adapter_leaves_behind_is_found(llava):
    class Forgetful(LlavaAdapter):
        def vg_load_model(self, spec):
            return replace(super().vg_load_model(spec), close=lambda: None)

    # Reading rows under eager attention takes over what was left; the mark stays.
    assert "given back" in failed(findings(Forgetful(), llava))


def test_an_exception_of_the_model_is_a_finding(llava):
    class Breaking(LlavaAdapter):
        def vg_extract_attention(self, model, inputs, request):
            raise RuntimeError("no kernel image\nis available")

    found = findings(Breaking(), llava)
    assert found["leaving early"].status == "failed"
    assert "RuntimeError: no kernel image is available" in found["leaving early"].said


def test_prompts_are_shown_with_one_image_token(llava):
    shown = rendered(open_adapter(LlavaAdapter(), llava))
    assert shown["bare"].endswith("questions. <image>\nthe cup on the left.")
    assert shown["chat"] == "USER: <image>\nthe cup on the left. ASSISTANT:"


def test_unmixing_for_a_while_gives_weights_back_after_an_error(llava):
    opened = open_adapter(LlavaAdapter(), llava)
    tower = opened.model.module.model.vision_tower
    before = {name: value.clone() for name, value in tower.state_dict().items()}

    def interrupted(tower: torch.nn.Module) -> None:
        with paint.unmixed(tower) as count:
            assert count == 3
            assert not tower.state_dict()[zeroed].any()
            raise KeyboardInterrupt

    zeroed = next(name for name in before if name.endswith("out_proj.weight"))
    with pytest.raises(KeyboardInterrupt):
        interrupted(tower)
    assert before[zeroed].any()
    assert all(torch.equal(value, before[name]) for name, value in tower.state_dict().items())


def test_a_model_that_is_not_transformers_is_skipped_not_failed(llava):
    opened = open_adapter(LlavaAdapter(), llava)
    bare = replace(opened.model, module=torch.nn.Identity(), context=MappingProxyType({}))
    found = {finding.check: finding for finding in examine(Patient(Opened(opened.hooks, bare)))}
    assert found["vision tower untouched"].status == "skipped"
    assert found["cells (paint probe)"].status == "skipped"


def test_what_an_adapter_knows_is_asked_for(llava):
    opened = open_adapter(LlavaAdapter(), llava)
    base = opened.model.module.model
    assert opened.adapter.name == "llava"
    assert opened.decoder is base.language_model
    assert opened.tower is base.vision_tower


def test_an_encoder_that_is_read_is_examined(llava):
    """Heads may be elsewhere than in what transformers calls the decoder."""

    class Elsewhere(LlavaAdapter):
        def language_model(self, module):
            return module.model.language_model

        def vg_load_model(self, spec):
            model = super().vg_load_model(spec)
            type(model.module).get_decoder = lambda module: module.model.vision_tower
            return model

    kind = type(open_adapter(LlavaAdapter(), llava).model.module)
    own = vars(kind).get("get_decoder")
    try:
        found = findings(Elsewhere(), llava)
    finally:
        if own is None:
            del kind.get_decoder
        else:
            kind.get_decoder = own
    assert not failed(found), found


def test_blended_cells_are_painted_in_their_middle(llava, monkeypatch):
    class Blends(LlavaAdapter):
        blends = True

    asked = []
    probe = paint.probe

    def look(*arguments, **options):
        asked.append(options["strips"])
        return probe(*arguments, **options)

    monkeypatch.setattr(paint, "probe", look)
    assert findings(Blends(), llava)["cells (paint probe)"].status == "ok"
    assert findings(LlavaAdapter(), llava)["cells (paint probe)"].status == "ok"
    assert asked == [False, True]


def test_neighbours_alone_are_forgiven_where_cells_blend(llava):
    def moved(by, blended):
        class Moved(LlavaAdapter):
            blends = blended

            def vg_locate_image_tokens(self, model, inputs):
                located = super().vg_locate_image_tokens(model, inputs)
                return [
                    [replace(v, positions=np.roll(v.positions, by, 1)) for v in views]
                    for views in located
                ]

        return findings(Moved(), llava)["cells (paint probe)"]

    # Rolled columns: the outermost comes from the far side.
    assert moved(1, blended=False).status == "failed"
    assert moved(1, blended=True).status == "failed"
    assert moved(0, blended=True).status == "ok"


def test_rows_that_are_no_numbers_are_found(llava):
    class Nothing(LlavaAdapter):
        def vg_extract_attention(self, model, inputs, request):
            rows = super().vg_extract_attention(model, inputs, request)
            return replace(rows, rows=tuple(row * float("nan") for row in rows.rows))

    found = failed(findings(Nothing(), llava))
    assert {"padding", "rows equal eager attention"} <= found
    assert {"leaving early", "nothing kept of another picture", "two threads"} <= found


def test_few_heads_may_swap_where_rounding_swaps_them():
    rows = torch.zeros(3, 1, 4)
    rows[:, 0, 0] = torch.tensor([0.30, 0.31, 0.60])
    swapped = rows[[1, 0, 2]]
    image = np.arange(4)
    assert doctor._alike(swapped, rows, image) == (1.0, 1.0)
    assert doctor._alike(rows[[2, 1, 0]], rows, image)[0] == 0.0


class OnDevice(torch.Tensor):
    """Refuses to become an array by itself, as a tensor on a GPU does."""

    def numpy(self, *, force=False):
        if not force:
            raise TypeError("can't convert a tensor on a device to numpy; use force=True")
        return self.as_subclass(torch.Tensor).numpy()


def test_cells_are_found_on_a_device(llava):
    opened = open_adapter(LlavaAdapter(), llava)

    def features(opened, inputs):
        return paint.embeddings(opened, inputs).as_subclass(OnDevice)

    with paint.unmixed(opened.tower):
        report = paint.probe(opened, features, ((200, 200),))
    assert report.right == report.planned
