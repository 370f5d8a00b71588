from contextlib import nullcontext
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import pytest

from vg_engine.core.errors import AdapterNotFoundError, PluginError, UnsupportedModelError
from vg_engine.registry.adapters import (
    adapter_for,
    adapter_names,
    check_type,
    model_types,
    refuse,
    refused,
)

WIDE = {"model_type": "wide", "vision_config": None}


@dataclass(frozen=True)
class Offer:
    name: str
    value: str
    package: str = "vg-some 1.0"
    adapter: Any = None

    def load(self):
        if self.adapter is None:
            raise PluginError(f"{self.package} is broken")
        return self.adapter


def asking(value, package, answer):
    """The offer of an adapter that is asked whether it claims a config."""
    return Offer("wide", value, package, type("A", (), {"claims": staticmethod(answer)}))


YES, NO = asking("a:A", "vg-a 1", lambda _: True), asking("b:B", "vg-b 2", lambda _: False)
BROKEN = Offer("wide", "x:X", "vg-broken 9")
RAISING = asking("x:X", "vg-raising 9", lambda config: config["vision_config"]["x"])


def test_a_single_claim_is_taken_without_importing_and_several_are_settled_by_asking():
    offers = [Offer("wide", "a:A"), Offer("tall", "b:B"), Offer("wide", "a:A")]
    assert adapter_for(WIDE, offers[:2]) is offers[0]
    # The same adapter twice is one claim.
    assert adapter_for(WIDE, offers).value == "a:A"
    assert adapter_for(WIDE, [NO, YES]) is YES
    with pytest.raises(AdapterNotFoundError, match=r"none of vg-b 2 \(b:B\), vg-c"):
        adapter_for(WIDE, [NO, asking("c:C", "vg-c 3", lambda _: False)])
    silent = Offer("wide", "d:D", "vg-d 4", type("Silent", (), {}))
    with pytest.raises(PluginError, match=r"claimed by vg-a 1 .* and vg-d 4 .*--adapter"):
        adapter_for(WIDE, [YES, silent])


def test_a_bad_claimant_matters_only_if_nobody_else_claims():
    reasons = (BROKEN, "vg-broken 9"), (RAISING, "vg-raising 9 .*cannot tell its models: TypeError")
    for bad, words in reasons:
        assert adapter_for(WIDE, [bad, YES]) is YES
        with pytest.raises(PluginError, match=words):
            adapter_for(WIDE, [bad, NO])


@pytest.mark.parametrize(
    ("members", "error", "words"),
    [
        ({}, None, ""),
        ({"model_types": ("wide",)}, None, ""),
        ({"model_types": ("tall", "high")}, UnsupportedModelError, "type tall or high, and it is"),
        ({"model_types": ("tall",), "claims": lambda _: True}, None, ""),
        ({"model_types": ("tall",), "claims": lambda config: config["x"]}, PluginError, "KeyError"),
    ],
)
def test_a_chosen_adapter_is_asked_for_its_types(members, error, words):
    adapter = SimpleNamespace(**members)
    with pytest.raises(error, match=words) if error else nullcontext():
        check_type("mine", adapter, WIDE, "it")


def test_an_unknown_type_is_told_what_can_be_done():
    for model_type, words in (
        ("wide2", "--adapter.*did you mean wide"),
        ("", "names no model_type.*wide"),
        ("zebra", "image_token_id and one square grid"),
    ):
        with pytest.raises(AdapterNotFoundError, match=words):
            adapter_for({"model_type": model_type}, [Offer("wide", "a:A")])


def test_names_and_types():
    adapters = [Offer("b", "b:B"), Offer("a", "a:A")]
    types = [Offer("t2", "a:A"), Offer("t1", "a:A"), Offer("t3", "b:B")]
    assert adapter_names(adapters) == ("a", "b")
    assert model_types(adapters[1], types) == ("t1", "t2")


def test_families_without_a_grid_are_refused_with_the_reason():
    for model_type, why in refused().items():
        assert why.strip(), model_type
        with pytest.raises(UnsupportedModelError, match=f"'{model_type}' cannot be grounded: "):
            adapter_for({"model_type": model_type}, [Offer("llava", "a:A")])
    assert {"idefics2", "aria", "instructblip", "blip-2", "qwen"} <= set(refused())
    with pytest.raises(UnsupportedModelError, match="32 learned queries"):
        refuse({"model_type": "blip-2"})
    # An installed adapter wins over a refusal.
    offers = [Offer("idefics2", "a:A")]
    assert adapter_for({"model_type": "idefics2"}, offers) is offers[0]


def test_a_tower_of_its_own_goes_before_the_type():
    plain, special = offers = [Offer("llava", "a:A"), Offer("llava+pixtral", "b:B")]
    clip, pixtral = (
        {"model_type": "llava", "vision_config": {"model_type": tower}}
        for tower in ("clip_vision_model", "pixtral")
    )
    assert adapter_for({"model_type": "llava"}, offers) is plain
    assert adapter_for(clip, offers) is plain
    assert adapter_for(pixtral, offers) is special
    assert adapter_for(pixtral, [plain]) is plain
