import json
import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from cells import PIXELS, cells, keep_model

import vg_engine
from vg_engine import Head, HeadsError, HeadSet, InputError, NotFoundError, PluginError, Prompt
from vg_engine.core import errors
from vg_engine.core.readout.edge_level import edge_level
from vg_engine.core.readout.regions import GridRegion, otsu, paper
from vg_engine.model_adapters.families.vipllava import VipLlavaAdapter


def test_an_installed_adapter_by_name() -> None:
    with cells(heads="L2H1", region="paper") as engine:
        answer = engine.ground(PIXELS, "1,2")
    assert answer.point == pytest.approx((37.5, 15.0), abs=8)
    assert answer.provenance["adapter"] == "cell"
    assert answer.provenance["tool"] == f"vg-engine {vg_engine.__version__}"
    assert answer.heads == (Head(2, 1),)


def test_an_adapter_of_ones_own(kit: Any) -> None:
    for given in (kit.CellAdapter, kit.CellAdapter()):
        answer = vg_engine.load("x", adapter=given, heads="auto").ground(PIXELS, "1,2")
        assert answer.provenance["adapter"] == "CellAdapter"


def test_the_config_finds_the_adapter(tmp_path: Path) -> None:
    config = tmp_path / "config.json"
    config.write_text(json.dumps({"model_type": "cells"}))
    engine = vg_engine.load(str(tmp_path), heads="auto")
    assert engine.ground(PIXELS, "1,2").provenance["adapter"] == "cell"
    missing = errors.AdapterNotFoundError
    original = {"model_type": "internvl_chat", "architectures": ["InternVLChatModel"]}
    for stated, error, words in (
        ({"model_type": "cels"}, missing, r"type 'cels' .*did you mean cells"),
        ({"model_type": "zebra"}, missing, "no adapter for models of type 'zebra'"),
        ({}, errors.ModelNotFoundError, r"holds no config\.json that can be read"),
        (original, errors.ModelError, r"original checkpoint \(intern.*vg-engine convert"),
    ):
        config.write_text(json.dumps(stated))
        with pytest.raises(error, match=words):
            vg_engine.load(tmp_path)


def test_the_spec_carries_what_was_said(kit: Any) -> None:
    stated = {"device": "cpu", "dtype": "float32", "revision": "main"}
    cells(**stated, options={"geometry": "pad"})
    (spec,) = kit.CellAdapter.specs
    assert spec.source == "cells"
    assert {name: getattr(spec, name) for name in stated} == stated
    assert dict(spec.options) == {"geometry": "pad"}
    assert not spec.trust_remote_code


def test_heads_in_every_form() -> None:
    given = (Head(2, 1), Head(3, 0))
    for heads in ("L2H1,L3H0", "2.1 3.0", given, ["L2H1", "3.0"], HeadSet("x", given, "given")):
        assert cells(heads=heads).ground(PIXELS, "1,2").heads == given
    automatic = cells(heads="auto").ground(PIXELS, "1,2")
    assert automatic.provenance["head_set"] == "auto"
    assert Head(2, 1) in automatic.heads


def test_a_model_without_an_entry_says_so(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING, "vg_engine")
    assert cells().head_set is None
    assert "no head set is known for cells" in caplog.text
    assert "vg-engine discover" in caplog.text
    caplog.clear()
    cells(heads="auto")
    assert not caplog.text


def test_a_users_model_entry_brings_its_settings(home: Path, kit: Any) -> None:
    keep_model(
        home, "grid", "aliases: [g]\nids: [org/grid]\nadapter: cell\nregion: otsu\n"
        "prompt: {template: 'the {expression}'}\noptions: {a: 1}\nnotes: [only cells]\n",
    )  # fmt: skip
    engine = vg_engine.load("g", heads="auto", options={"b": 2})
    assert engine.settings.region is otsu
    assert engine.settings.prompt.template == "the {expression}"
    assert "only cells" in engine.ground(PIXELS, "1,2").notes
    assert kit.CellAdapter.specs[-1].source == "org/grid"
    assert dict(kit.CellAdapter.specs[-1].options) == {"a": 1, "b": 2}


def test_regions_by_name_parameter_or_function() -> None:
    assert cells(heads="auto").settings.region is edge_level
    assert cells(heads="auto", region="paper").settings.region is paper
    stated = "peak_share:share=0.75"
    assert cells(heads="auto", region=stated).settings.region_name == stated

    def everything(values: np.ndarray) -> GridRegion:
        rows, columns = values.shape
        box = (0.0, 0.0, float(columns), float(rows))
        return GridRegion(box, np.ones((rows, columns), np.bool_), (1.0, 1.0), 1.0)

    engine = cells(heads="auto", region=everything)
    assert engine.settings.region_name == "everything"
    assert engine.ground(PIXELS, "1,2").box == (0, 0, 90, 60)


def test_prompts_in_every_form() -> None:
    for given, prompt in (
        (None, Prompt()),
        ("chat", Prompt(form="chat")),
        ({"query_row": "prompt_last"}, Prompt(query_row="prompt_last")),
        (Prompt(system="s"), Prompt(system="s")),
    ):
        assert cells(heads="auto", prompt=given).settings.prompt == prompt


def test_postprocessors_by_name_and_object(kit: Any) -> None:
    engine = cells(heads="L2H1", postprocessors=["sure", kit.Sure()])
    answer = engine.ground(PIXELS, "1,2")
    assert answer.score == 1.0
    assert answer.notes == ("sure", "sure")
    assert answer.provenance["postprocess"] == ["sure", "Sure"]
    with pytest.raises(PluginError, match="is not a post-processor"):
        cells(postprocessors=[kit.CellAdapter()])
    alone = cells(heads="L2H1", postprocessors="sure", dtype=torch.float32)
    assert alone.ground(PIXELS, "1,2").notes == ("sure",)
    assert kit.CellAdapter.specs[-1].dtype == "float32"


@pytest.mark.parametrize(
    ("choice", "error", "words"),
    [
        ({"region": "papr"}, NotFoundError, "did you mean paper"),
        ({"region": "otsu:c=1"}, InputError, "no option 'c'; known: factor"),
        ({"region": "otsu:factor=x"}, InputError, "factor takes a whole number, got 'x'"),
        ({"region": "paper:c=1"}, InputError, "it takes none"),
        ({"prompt": {"row": "x"}}, InputError, "prompt: unknown key 'row'; did you mean q"),
        ({"prompt": "talk"}, InputError, "form: must be 'bare' or 'chat', got str 'talk'"),
        ({"postprocessors": ["shure"]}, NotFoundError, "no plugin 'shure'.*you mean sure"),
        ({"source": None, "model": object()}, InputError, "needs its processor"),
        ({"source": None, "processor": object()}, InputError, "came without its model"),
        ({"heads": "L9H1"}, HeadsError, "L9H1 is out of range"),
        ({"heads": "llava-1.5-7b"}, HeadsError, "32 layers x 32 heads, .* model has 4 x 2"),
        ({"heads": "llava-15-7b"}, errors.HeadSetNotFoundError, r"did you mean llava-1\.5-7b"),
        ({"heads": "L2H1,X"}, HeadsError, "'X' names no head"),
        ({"heads": " "}, HeadsError, "no head is named"),
        ({"heads": "/none/at.yaml"}, InputError, r"at\.yaml"),
        ({"heads": []}, HeadsError, "no head is named"),
        ({"source": None, "adapter": None, "revision": "v2"}, InputError, "has no revisions"),
        ({"source": str(Path(__file__).parent), "revision": "v2"}, InputError, "has no revisions"),
    ],
)
def test_choices_that_cannot_be_met_are_refused(choice: Any, error: type, words: str) -> None:
    with pytest.raises(error, match=words):
        cells(**choice)


def test_large_pictures_are_refused_as_told() -> None:
    with pytest.raises(errors.PictureError, match="more than the 100 allowed"):
        cells(heads="L2H1", max_pixels=100).ground(PIXELS, "1,2")


def test_a_plugin_that_cannot_be_made_is_named() -> None:
    class Needy:
        def __init__(self, key: str) -> None: ...

    with pytest.raises(PluginError, match=r"'Needy' cannot be made: TypeError.*no arguments"):
        vg_engine.load("x", adapter=Needy)


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("./none", "no folder ./none; check the path"),
        ("/none/at/all", "no folder /none/at/all; check the path"),
        ("llava-15-7b", "did you mean llava-1.5-7b"),
        ("llava-hf/llava-1.5-7b", "has no such model.*did you mean llava-hf/llava-1.5-7b"),
        ("", "the model's name is empty"),
        (__file__, "is a file; name the folder"),
    ],
)
def test_a_model_that_does_not_exist(source: str, words: str) -> None:
    with pytest.raises(errors.ModelNotFoundError, match=words) as caught:
        vg_engine.load(source)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("source", ["llava-15-7b", "llava-hf/llava-1.5-7b", "/none/at/all"])
def test_the_nearest_models_are_named_where_an_adapter_was_chosen(source: str) -> None:
    with pytest.raises(errors.ModelNotFoundError) as caught:
        vg_engine.load(source, adapter="llava")
    assert "\n" not in str(caught.value)
    assert ("did you mean llava-" in str(caught.value)) == source.startswith("llava")
    assert ("did you mean" in str(caught.value)) == source.startswith("llava")


def test_a_model_in_memory_is_named_after_its_class() -> None:
    engine = vg_engine.load(model=torch.nn.Identity(), processor=1, adapter="cell")
    assert engine.model.name == "Identity"


def test_two_engines_live_side_by_side() -> None:
    one, two = cells(heads="L2H1"), cells(heads="L3H0")
    with two:
        assert two.ground(PIXELS, "1,2").heads == (Head(3, 0),)
    assert one.ground(PIXELS, "1,2").heads == (Head(2, 1),)
    one.close()


def test_an_entrys_switches_are_its_own_adapters(home: Path, kit: Any) -> None:
    for adapter in ("cell", "llava"):
        keep_model(home, "m", f"folder: .\nadapter: {adapter}\noptions: {{geometry: pad}}\n")
        (home / "config.json").write_text('{"model_type": "cells"}')
        vg_engine.load("m", adapter="cell", heads="L2H1")
    assert [dict(spec.options) for spec in kit.CellAdapter.specs] == [{"geometry": "pad"}, {}]


def test_a_peft_adapter_alone_and_a_config_that_is_no_json(tmp_path: Path) -> None:
    (tmp_path / "adapter_config.json").write_text("{}")
    with pytest.raises(errors.ModelNotFoundError, match="holds a peft adapter alone"):
        vg_engine.load(tmp_path)
    (tmp_path / "config.json").write_text('{"model_type": "llava",,}')
    with pytest.raises(
        errors.ModelNotFoundError, match=r"config\.json is not JSON .*line 1 column 24"
    ):
        vg_engine.load(tmp_path)


@pytest.mark.parametrize("adapter", ["internvl", "qwen2_5_vl", "vipllava", VipLlavaAdapter])
def test_an_adapter_for_models_of_another_type_is_refused_by_type(adapter: Any) -> None:
    name = adapter if isinstance(adapter, str) else adapter.__name__
    with pytest.raises(
        errors.UnsupportedModelError, match=f"{name}' takes models of type .*llava; name"
    ):
        vg_engine.load(adapter=adapter)
