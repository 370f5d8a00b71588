"""EngineSpec: plain data there and back, and an engine that answers like one made of arguments."""

import json
import pickle
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

import vg_engine
from vg_engine import EngineSpec, Head, HeadsError, HeadSet, InputError

PIXELS = np.full((60, 60, 3), 120, np.uint8)
CHOICES: dict[str, Any] = {
    "adapter": "cell",
    "region": "mean_std:c=1.5",
    "prompt": {"template": "the {expression}"},
    "batch_size": 3,
}
SPEC = EngineSpec(model="cells", heads="L2H1", postprocessors=("sure",), **CHOICES)


def test_a_spec_is_plain_data() -> None:
    again = EngineSpec.from_dict(json.loads(json.dumps(SPEC.to_dict())))
    assert again == SPEC == pickle.loads(pickle.dumps(SPEC))
    assert hash(again) == hash(SPEC)
    assert replace(SPEC, batch_size=4) != SPEC
    assert EngineSpec().to_dict() == {}
    assert "device" not in SPEC.to_dict()
    for fields in (SPEC.prompt, SPEC.options):
        with pytest.raises(TypeError):
            fields["form"] = "chat"  # type: ignore[index]


def test_an_engine_of_a_spec_answers_like_one_of_arguments() -> None:
    with (
        vg_engine.load(SPEC) as one,
        vg_engine.load("cells", heads=["L2H1"], postprocessors=["sure"], **CHOICES) as other,
    ):
        assert one.settings.prompt == other.settings.prompt
        first, second = one.ground(PIXELS, "1,4"), other.ground(PIXELS, "1,4")
    assert (first.box, first.notes) == (second.box, second.notes)
    assert dict(first.provenance) == dict(second.provenance)
    assert first.provenance["postprocess"] == ["sure"]


def test_what_is_said_beside_a_spec_wins_over_it() -> None:
    """No argument is dropped in silence: each plain one changes the spec's field."""
    beside = {"region": "otsu", "prompt": {"template": "a {expression}"}, "batch_size": 2}
    with vg_engine.load(SPEC, **beside) as engine:
        assert engine.settings.region_name == "otsu"
        assert engine.settings.prompt.template == "a {expression}"
        assert engine.settings.batch_size == 2
        assert engine.ground(PIXELS, "1,4").provenance["postprocess"] == ["sure"]
    chosen = HeadSet("mine", (Head(2, 1), Head(3, 0)), "given")
    with vg_engine.load(SPEC, heads=chosen) as engine:
        assert engine.head_set is chosen
        assert engine.settings.region_name == "mean_std:c=1.5"
    with pytest.raises(InputError, match="device 'warp' cannot be used"):
        vg_engine.load(EngineSpec(), device="warp")
    with pytest.raises(InputError, match="template"):
        vg_engine.load(SPEC, prompt={"template": "no place"})


def test_a_load_that_fails_closes_its_postprocessors() -> None:
    class Held:
        closed = 0

        def vg_postprocess(self) -> None: ...

        def close(self) -> None:
            self.closed += 1

    held = Held()
    with pytest.raises(HeadsError):
        vg_engine.load("cells", adapter="cell", heads="L99H0", postprocessors=[held])
    assert held.closed == 1


@pytest.mark.parametrize(
    ("data", "description"),
    [
        ({"modle": "x"}, "no field 'modle'; did you mean model"),
        ({"batch_size": "8"}, "batch_size is a whole number, got '8'"),
        ({"postprocessors": "sure"}, "postprocessors is a list of names, got 'sure'"),
    ],
)
def test_what_is_no_spec_is_refused(data: dict[str, object], description: str) -> None:
    with pytest.raises(InputError, match=description):
        EngineSpec.from_dict(data)
