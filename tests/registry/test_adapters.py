from dataclasses import dataclass
from typing import Any

import pytest

from vg_engine.core.errors import AdapterNotFoundError, PluginError, UnsupportedModelError
from vg_engine.registry.adapters import adapter_for, adapter_names, model_types, refuse, refused


@dataclass(frozen=True)
class Offer:
    name: str
    value: str
    package: str = "vg-some 1.0"
    adapter: Any = None

    def load(self) -> Any:
        if self.adapter is None:
            raise PluginError(f"{self.package} is broken")
        return self.adapter


def claiming(*, answer: bool) -> type:
    return type("Adapter", (), {"claims": staticmethod(lambda _: answer)})


def test_a_single_claim_is_taken_without_importing() -> None:
    offers = [Offer("wide", "a:A"), Offer("tall", "b:B")]
    assert adapter_for({"model_type": "wide"}, offers) is offers[0]


def test_the_same_adapter_twice_is_one_claim() -> None:
    offers = [Offer("wide", "a:A"), Offer("wide", "a:A")]
    assert adapter_for({"model_type": "wide"}, offers).value == "a:A"


def test_several_claims_are_settled_by_asking() -> None:
    config = {"model_type": "wide"}
    yes, no = (
        Offer("wide", "a:A", "vg-a 1", claiming(answer=True)),
        Offer("wide", "b:B", "vg-b 2", claiming(answer=False)),
    )
    assert adapter_for(config, [no, yes]) is yes
    with pytest.raises(AdapterNotFoundError, match=r"none of vg-b 2 \(b:B\), vg-c"):
        adapter_for(config, [no, Offer("wide", "c:C", "vg-c 3", claiming(answer=False))])
    silent = Offer("wide", "d:D", "vg-d 4", type("Silent", (), {}))
    with pytest.raises(PluginError, match=r"claimed by vg-a 1 .* and vg-d 4 .*--adapter"):
        adapter_for(config, [yes, silent])


def test_a_broken_claimant_matters_only_if_nobody_else_claims() -> None:
    config = {"model_type": "wide"}
    broken = Offer("wide", "x:X", "vg-broken 9")
    yes = Offer("wide", "a:A", "vg-a 1", claiming(answer=True))
    no = Offer("wide", "b:B", "vg-b 1", claiming(answer=False))
    assert adapter_for(config, [broken, yes]) is yes
    with pytest.raises(PluginError, match="vg-broken 9"):
        adapter_for(config, [broken, no])


def test_an_unknown_type_is_answered_with_the_nearest() -> None:
    with pytest.raises(AdapterNotFoundError, match=r"--adapter.*did you mean wide"):
        adapter_for({"model_type": "wide2"}, [Offer("wide", "a:A")])
    with pytest.raises(AdapterNotFoundError, match=r"names no model_type.*wide"):
        adapter_for({}, [Offer("wide", "a:A")])


def test_names_and_types() -> None:
    adapters = [Offer("b", "b:B"), Offer("a", "a:A")]
    types = [Offer("t2", "a:A"), Offer("t1", "a:A"), Offer("t3", "b:B")]
    assert adapter_names(adapters) == ("a", "b")
    assert model_types(adapters[1], types) == ("t1", "t2")


def test_families_without_a_grid_are_refused_with_the_reason() -> None:
    for model_type, why in refused().items():
        assert why.strip(), model_type
        with pytest.raises(UnsupportedModelError, match=f"'{model_type}' cannot be grounded: "):
            adapter_for({"model_type": model_type}, [Offer("llava", "a:A")])
    assert {"idefics2", "aria", "instructblip", "blip-2", "qwen"} <= set(refused())
    with pytest.raises(UnsupportedModelError, match="32 learned queries"):
        refuse({"model_type": "blip-2"})


def test_an_installed_adapter_wins_over_a_refusal() -> None:
    offers = [Offer("idefics2", "a:A")]
    assert adapter_for({"model_type": "idefics2"}, offers) is offers[0]


def test_an_unknown_type_is_told_what_auto_would_need() -> None:
    with pytest.raises(AdapterNotFoundError, match="image_token_id and one square grid"):
        adapter_for({"model_type": "zebra"}, [Offer("llava", "a:A")])


def test_a_tower_of_its_own_goes_before_the_type() -> None:
    plain, special = Offer("llava", "a:A"), Offer("llava+pixtral", "b:B")
    offers = [plain, special]
    assert adapter_for({"model_type": "llava"}, offers) is plain
    tower = {"model_type": "llava", "vision_config": {"model_type": "clip_vision_model"}}
    assert adapter_for(tower, offers) is plain
    pixtral = {"model_type": "llava", "vision_config": {"model_type": "pixtral"}}
    assert adapter_for(pixtral, offers) is special
    assert adapter_for(pixtral, [plain]) is plain


def test_a_claimant_that_raises_stops_nobody_else() -> None:
    config = {"model_type": "wide", "vision_config": None}
    raising = type("A", (), {"claims": staticmethod(lambda c: c["vision_config"]["x"])})
    first = Offer("wide", "x:X", "vg-raising 9", raising)
    yes = Offer("wide", "a:A", "vg-a 1", claiming(answer=True))
    no = Offer("wide", "b:B", "vg-b 1", claiming(answer=False))
    assert adapter_for(config, [first, yes]) is yes
    with pytest.raises(PluginError, match=r"vg-raising 9 .*cannot tell its models: TypeError"):
        adapter_for(config, [first, no])
