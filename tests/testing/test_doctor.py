"""The doctor finds what is wrong, on the user's own weights, and leaves them as they were."""

from dataclasses import replace
from types import MappingProxyType

import numpy as np
import pytest
import torch
from tampered import Keeps, extracted, moved, transposed
from transformers.masking_utils import AttentionMaskInterface

from vg_engine.core.contract.model import ModelSpec
from vg_engine.model_adapters.families.internvl import InternVLAdapter
from vg_engine.model_adapters.families.llava import LlavaAdapter
from vg_engine.model_adapters.shared import capture
from vg_engine.plugins.manager import make_hooks
from vg_engine.testing import Harness, doctor, open_adapter, paint
from vg_engine.testing.doctor import Patient, examine, rendered, summary
from vg_engine.testing.tiny import tiny_internvl, tiny_llava

CHECKS = 10


@pytest.fixture(scope="module")
def llava(tmp_path_factory):
    return str(tiny_llava(tmp_path_factory.mktemp("doctor") / "llava", layers=3))


def patient(adapter, folder, dtype="float32"):
    hooks = make_hooks(adapter.name, adapter)
    model = hooks.load_model(ModelSpec(folder, device="cpu", dtype=dtype))
    return Patient(Harness(hooks, model), probes="few")


def by_check(sick):
    return {found.check: found for found in examine(sick)}


def findings(adapter, folder, dtype="float32"):
    return by_check(patient(adapter(), folder, dtype))


def failed(found):
    return {name for name, finding in found.items() if finding.status == "failed"}


def copied(module):
    return {name: value.clone() for name, value in module.state_dict().items()}


def same(module, before):
    return all(torch.equal(value, before[name]) for name, value in module.state_dict().items())


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_sound_model_is_well_and_keeps_its_weights(llava, dtype):
    sound = patient(LlavaAdapter(), llava, dtype)
    before = copied(sound.opened.model.module)
    found = by_check(sound)
    assert not failed(found), found
    assert len(found) == CHECKS
    wanted = {"ok": CHECKS} if dtype == "float32" else {"ok": CHECKS - 1, "skipped": 1}
    assert dict(summary(list(found.values()))) == wanted
    assert same(sound.opened.model.module, before)


def test_tiles_are_well(tmp_path):
    found = findings(InternVLAdapter, str(tiny_internvl(tmp_path / "internvl", layers=2)))
    assert not failed(found), found
    assert "wrong" in found["cells (paint probe)"].description


def test_a_mask_that_is_not_registered_is_found(llava, monkeypatch):
    sick = patient(LlavaAdapter(), llava)
    monkeypatch.delitem(AttentionMaskInterface._global_mapping, capture.OVER_FUSED)
    assert {"padding", "rows equal eager attention"} <= failed(by_check(sick))


class Late(LlavaAdapter):
    def position_ids(self, model, tensors):
        # Twice as far apart: rotations see differences alone, so a shift would do no harm.
        return 2 * super().position_ids(model, tensors)


def no_numbers(rows):
    return rows * float("nan")


EAGER, CELLS = "rows equal eager attention", "cells (paint probe)"
ALL_ROWS = {"padding", EAGER, "leaving early", "nothing kept of another picture", "two threads"}


@pytest.mark.parametrize(
    ("adapter", "wrong"),
    [
        (Late, {EAGER}),
        (extracted(no_numbers), ALL_ROWS),
        # Reading rows under eager attention takes over what was left; the mark stays.
        (Keeps, {"given back"}),
    ],
)
def test_what_is_wrong_is_found(llava, adapter, wrong):
    assert wrong <= failed(findings(adapter, llava))


def test_a_transposed_grid_is_found(llava):
    assert failed(findings(moved(transposed), llava)) == {CELLS}


def test_rows_of_other_heads_are_found_in_half_precision(llava):
    found = findings(extracted(lambda rows: rows.roll(1, 0)), llava, "bfloat16")
    assert EAGER in failed(found)
    assert "heads ranked alike" in found[EAGER].description


def test_an_exception_of_the_model_is_a_finding(llava):
    class Breaking(LlavaAdapter):
        def vg_extract_attention(self, model, inputs, request):
            raise RuntimeError("no kernel image\nis available")

    found = findings(Breaking, llava)["leaving early"]
    assert found.status == "failed"
    assert "RuntimeError: no kernel image is available" in found.description


def test_prompts_are_shown_with_one_image_token(llava):
    shown = rendered(open_adapter(LlavaAdapter(), llava))
    assert shown["bare"].endswith("questions. <image>\nthe cup on the left.")
    assert shown["chat"] == "USER: <image>\nthe cup on the left. ASSISTANT:"


def test_unmixing_for_a_while_gives_weights_back_after_an_error(llava):
    opened = open_adapter(LlavaAdapter(), llava)
    tower = opened.model.module.model.vision_tower
    before = copied(tower)
    zeroed = next(name for name in before if name.endswith("out_proj.weight"))

    def interrupted():
        with paint.unmixed(tower) as count:
            assert count == 3
            assert not tower.state_dict()[zeroed].any()
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert before[zeroed].any()
    assert same(tower, before)


def test_a_model_that_is_not_transformers_is_skipped_not_failed(llava):
    opened = open_adapter(LlavaAdapter(), llava)
    bare = replace(opened.model, module=torch.nn.Identity(), context=MappingProxyType({}))
    found = by_check(Patient(Harness(opened.hooks, bare)))
    assert {found[name].status for name in ("vision tower untouched", CELLS)} == {"skipped"}


def test_what_an_adapter_knows_is_asked_for(llava):
    opened = open_adapter(LlavaAdapter(), llava)
    base = opened.model.module.model
    assert opened.adapter.name == "llava"
    assert opened.decoder is base.language_model
    assert opened.tower is base.vision_tower


def test_an_encoder_that_is_read_is_examined(llava, monkeypatch):
    """Heads may be elsewhere than in what transformers calls the decoder."""

    class Elsewhere(LlavaAdapter):
        def language_model(self, module):
            return module.model.language_model

        def vg_load_model(self, spec):
            model = super().vg_load_model(spec)
            type(model.module).get_decoder = lambda module: module.model.vision_tower
            return model

    kind = type(open_adapter(LlavaAdapter(), llava).model.module)
    # Set and taken back, whichever class of its line has it.
    monkeypatch.setattr(kind, "get_decoder", kind.get_decoder)
    found = findings(Elsewhere, llava)
    assert not failed(found), found


class Blends(LlavaAdapter):
    blends = True


def test_blended_cells_are_painted_in_their_middle(llava, monkeypatch):
    asked = []
    probe = paint.probe

    def look(*arguments, **options):
        asked.append(options["strips"])
        return probe(*arguments, **options)

    monkeypatch.setattr(paint, "probe", look)
    for adapter in (Blends, LlavaAdapter):
        assert findings(adapter, llava)[CELLS].status == "ok"
    assert asked == [False, True]


@pytest.mark.parametrize(("by", "status"), [(1, "failed"), (0, "ok")])
def test_neighbours_alone_are_forgiven_where_cells_blend(llava, by, status):
    def rolled(views):
        # The outermost column comes from the far side.
        return [replace(view, positions=np.roll(view.positions, by, 1)) for view in views]

    assert findings(moved(rolled, Blends), llava)[CELLS].status == status


def test_few_heads_may_swap_where_rounding_swaps_them():
    rows = torch.zeros(3, 1, 4)
    rows[:, 0, 0] = torch.tensor([0.30, 0.31, 0.60])
    image = np.arange(4)
    assert doctor._alike(rows[[1, 0, 2]], rows, image) == (1.0, 1.0)
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
