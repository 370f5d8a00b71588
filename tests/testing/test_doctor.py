"""The doctor finds what is wrong, on the user's own weights, and leaves them as they were."""

from dataclasses import replace
from types import MappingProxyType

import pytest
import torch
from transformers.masking_utils import AttentionMaskInterface

from vg_engine.core.types import ModelSpec
from vg_engine.model_adapters import capture
from vg_engine.model_adapters.internvl import InternVLAdapter
from vg_engine.model_adapters.llava import LlavaAdapter
from vg_engine.plugins.manager import make_hooks
from vg_engine.testing import Opened, open_adapter, paint
from vg_engine.testing.doctor import Finding, Patient, examine, rendered, summary
from vg_engine.testing.tiny import tiny_internvl, tiny_llava

CHECKS = 10


@pytest.fixture(scope="module")
def llava(tmp_path_factory):
    return str(tiny_llava(tmp_path_factory.mktemp("doctor") / "llava", layers=3))


def patient(adapter, folder, dtype="float32") -> Patient:
    hooks = make_hooks(adapter.name, adapter)
    model = hooks.load_model(ModelSpec(folder, device="cpu", dtype=dtype))
    return Patient(Opened(hooks, model), adapter.vision_tower(model.module))


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
    assert "ranking of heads" in found["rows equal eager attention"].said


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
    strange = Patient(Opened(opened.hooks, bare), None)
    found = {finding.check: finding for finding in examine(strange)}
    assert found["vision tower untouched"].status == "skipped"
    assert found["cells (paint probe)"].status == "skipped"
