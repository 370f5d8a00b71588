import json
import logging
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import vg_engine
from vg_engine import (
    AdapterNotFoundError,
    Head,
    HeadsError,
    HeadSet,
    HeadSetNotFoundError,
    InputError,
    ModelNotFoundError,
    NotFoundError,
    PluginError,
    Prompt,
)
from vg_engine.core.contract.model import LoadedModel, ModelSpec
from vg_engine.core.readout.regions import GridRegion, otsu, paper
from vg_engine.registry import catalog

PIXELS = np.zeros((60, 90, 3), np.uint8)


def kit() -> Any:
    """The third-party package of conftest."""
    return sys.modules["vg_cells"]


def cells(**choices: Any) -> vg_engine.Engine:
    return vg_engine.load("cells", adapter="cell", **choices)


def test_an_installed_adapter_by_name() -> None:
    with cells(heads="L2H1", region="paper") as engine:
        answer = engine.ground(PIXELS, "1,2")
    assert answer.point == pytest.approx((37.5, 15.0), abs=8)
    assert answer.provenance["adapter"] == "cell"
    assert answer.provenance["tool"] == f"vg-engine {vg_engine.__version__}"
    assert answer.heads == (Head(2, 1),)


def test_an_adapter_of_ones_own() -> None:
    for given, name in ((kit().CellAdapter, "CellAdapter"), (kit().CellAdapter(), "CellAdapter")):
        answer = vg_engine.load("x", adapter=given, heads="auto").ground(PIXELS, "1,2")
        assert answer.provenance["adapter"] == name


def test_the_config_finds_the_adapter(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "cells"}))
    engine = vg_engine.load(str(tmp_path), heads="auto")
    assert engine.ground(PIXELS, "1,2").provenance["adapter"] == "cell"
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "cels"}))
    with pytest.raises(AdapterNotFoundError, match=r"type 'cels' .*did you mean cells"):
        vg_engine.load(str(tmp_path))
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(ModelNotFoundError, match=r"holds no config\.json that can be read"):
        vg_engine.load(str(tmp_path))


def test_the_spec_carries_what_was_said() -> None:
    cells(device="cpu", dtype="float32", revision="main", options={"geometry": "pad"})
    (spec,) = kit().CellAdapter.specs
    assert (spec.source, spec.device, spec.dtype, spec.revision) == (
        "cells",
        "cpu",
        "float32",
        "main",
    )
    assert dict(spec.options) == {"geometry": "pad"}
    assert not spec.trust_remote_code


def test_heads_in_every_form() -> None:
    given = (Head(2, 1), Head(3, 0))
    for heads in ("L2H1,L3H0", "2.1 3.0", given, ["L2H1", "3.0"], HeadSet("x", given, "given")):
        assert cells(heads=heads).ground(PIXELS, "1,2").heads == given
    automatic = cells(heads="auto").ground(PIXELS, "1,2")
    assert automatic.provenance["head_set"] == "auto"
    assert Head(2, 1) in automatic.heads


def test_heads_that_do_not_fit_are_refused() -> None:
    with pytest.raises(HeadsError, match="L9H1 is out of range"):
        cells(heads="L9H1")
    with pytest.raises(HeadsError, match="made for 32 layers x 32 heads, this model has 4 x 2"):
        cells(heads="llava-1.5-7b")
    with pytest.raises(HeadSetNotFoundError, match=r"did you mean llava-1\.5-7b"):
        cells(heads="llava-15-7b")
    with pytest.raises(HeadsError, match="'X' names no head"):
        cells(heads="L2H1,X")
    with pytest.raises(HeadsError, match="no head is named"):
        cells(heads=" ")


def test_a_model_without_an_entry_says_so(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, "vg_engine"):
        assert cells().head_set is None
    assert "no head set is known for cells" in caplog.text
    assert "vg-engine discover" in caplog.text
    caplog.clear()
    with caplog.at_level(logging.WARNING, "vg_engine"):
        cells(heads="auto")
    assert not caplog.text


def test_the_users_heads_and_prompt_are_found(package: Path) -> None:
    heads = package / "home" / "heads"
    heads.mkdir(parents=True)
    (heads / "mine.yaml").write_text(
        "name: mine\nmodels: [cells]\nlayers: 4\nheads_per_layer: 2\nmode: given\n"
        "heads: [{head: L2H1}]\nprompt: {form: chat, query_row: prompt_last}\n"
    )
    found = cells().head_set
    assert found is not None
    assert found.name == "mine"
    assert cells(heads="mine").settings.prompt == Prompt(form="chat", query_row="prompt_last")
    given = cells(heads="mine", prompt={"form": "chat", "template": "{expression}"})
    assert given.settings.prompt == Prompt(form="chat", query_row="prompt_last")


def test_a_users_model_entry_brings_its_settings(package: Path) -> None:
    models = package / "home" / "models"
    models.mkdir(parents=True)
    (models / "grid.yaml").write_text(
        "name: grid\naliases: [g]\nids: [org/grid]\nadapter: cell\nregion: otsu\n"
        "prompt: {template: 'the {expression}'}\noptions: {a: 1}\nnotes: [only cells]\n"
    )
    engine = vg_engine.load("g", heads="auto", options={"b": 2})
    assert engine.settings.region is otsu
    assert engine.settings.prompt.template == "the {expression}"
    assert "only cells" in engine.ground(PIXELS, "1,2").notes
    assert kit().CellAdapter.specs[-1].source == "org/grid"
    assert dict(kit().CellAdapter.specs[-1].options) == {"a": 1, "b": 2}


def test_regions_by_name_parameter_or_function() -> None:
    assert cells(heads="auto").settings.region is paper
    assert cells(heads="auto", region="peak_share:share=0.75").settings.region_name == (
        "peak_share:share=0.75"
    )

    def everything(values: np.ndarray) -> GridRegion:
        rows, columns = values.shape
        box = (0.0, 0.0, float(columns), float(rows))
        return GridRegion(box, np.ones((rows, columns), np.bool_), (1.0, 1.0), 1.0)

    engine = cells(heads="auto", region=everything)
    assert engine.settings.region_name == "everything"
    assert engine.ground(PIXELS, "1,2").box == (0, 0, 90, 60)
    for region, words in (
        ("papr", "did you mean paper"),
        ("otsu:c=1", "no option 'c'; known: factor"),
        ("otsu:factor=x", "factor takes a whole number, got 'x'"),
        ("paper:c=1", "it takes none"),
    ):
        with pytest.raises((NotFoundError, InputError), match=words):
            cells(region=region)


def test_prompts_in_every_form() -> None:
    for given, prompt in (
        (None, Prompt()),
        ("chat", Prompt(form="chat")),
        ({"query_row": "prompt_last"}, Prompt(query_row="prompt_last")),
        (Prompt(system="s"), Prompt(system="s")),
    ):
        assert cells(heads="auto", prompt=given).settings.prompt == prompt
    with pytest.raises(InputError, match="prompt: unknown key 'row'; did you mean query_row"):
        cells(prompt={"row": "x"})
    with pytest.raises(InputError, match="form: must be 'bare' or 'chat', got str 'talk'"):
        cells(prompt="talk")


def test_postprocessors_by_name_and_object() -> None:
    engine = cells(heads="L2H1", postprocessors=["sure", kit().Sure()])
    answer = engine.ground(PIXELS, "1,2")
    assert answer.score == 1.0
    assert answer.notes == ("sure", "sure")
    assert answer.provenance["postprocess"] == ["sure", "Sure"]
    with pytest.raises(NotFoundError, match=r"no plugin 'shure'.*did you mean sure"):
        cells(postprocessors=["shure"])
    with pytest.raises(PluginError, match="is no post-processor"):
        cells(postprocessors=[kit().CellAdapter()])


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
        ("llava-hf/llava-1.5-7b", "on the hub or in its cache.*did you mean llava-hf/llava-1.5-7b"),
        ("", "the model's name is empty"),
        (__file__, "is a file; name the folder"),
    ],
)
def test_a_model_that_does_not_exist(source: str, words: str) -> None:
    with pytest.raises(ModelNotFoundError, match=words) as caught:
        vg_engine.load(source)
    assert "\n" not in str(caught.value)


def test_a_model_in_memory_needs_its_processor() -> None:
    with pytest.raises(InputError, match="needs its processor"):
        vg_engine.load(model=object(), adapter="cell")
    with pytest.raises(InputError, match="came without its model"):
        vg_engine.load(processor=object(), adapter="cell")
    engine = vg_engine.load(model=__import__("torch").nn.Identity(), processor=1, adapter="cell")
    assert engine.model.name == "Identity"


def test_two_engines_live_side_by_side() -> None:
    one, two = cells(heads="L2H1"), cells(heads="L3H0")
    with two:
        assert two.ground(PIXELS, "1,2").heads == (Head(3, 0),)
    assert one.ground(PIXELS, "1,2").heads == (Head(2, 1),)
    one.close()


def test_large_pictures_are_refused_as_told() -> None:
    with pytest.raises(vg_engine.PictureError, match="more than the 100 allowed"):
        cells(heads="L2H1", max_pixels=100).ground(PIXELS, "1,2")


def kept_by_the_user(package: Path, name: str, models: str, more: str = "") -> None:
    heads = package / "home" / "heads"
    heads.mkdir(parents=True, exist_ok=True)
    (heads / f"{name}.yaml").write_text(
        f"name: {name}\nmodels: [{models}]\nmode: given\nheads: [{{head: L2H1}}]\n{more}"
    )


def test_heads_that_are_found_bring_their_own_prompt(package: Path) -> None:
    stated = "prompt: {form: chat, query_row: prompt_last}\n"
    kept_by_the_user(package, "mine", "cells", stated)
    engine = cells()
    assert engine.head_set is not None
    assert engine.head_set.name == "mine"
    assert engine.settings.prompt == Prompt(form="chat", query_row="prompt_last")
    assert engine.ground(PIXELS, "1,2").provenance["prompt"] == "chat"
    assert cells(heads="L2H1", prompt="bare").settings.prompt == Prompt()


@pytest.mark.parametrize("heads", [None, "mine", "the set itself"])
@pytest.mark.parametrize(
    ("prompt", "words"),
    [
        ("bare", "form 'chat', not 'bare'"),
        ({"query_row": "expression_all"}, "query_row 'prompt_last', not 'expression_all'"),
        ({"template": "find {expression}"}, "template '{expression}', not 'find {expression}'"),
        (Prompt(), "form 'chat', not 'bare'; query_row 'prompt_last', not 'expression_last'"),
    ],
)
def test_another_prompt_than_the_heads_were_found_with_is_refused(
    package: Path, heads: str | None, prompt: Any, words: str
) -> None:
    stated = "prompt: {form: chat, query_row: prompt_last}\n"
    kept_by_the_user(package, "mine", "cells", stated)
    chosen = catalog.head_set("mine") if heads == "the set itself" else heads
    before = len(kit().CellAdapter.specs)
    with pytest.raises(HeadsError, match="'mine' was found with prompt") as caught:
        cells(heads=chosen, prompt=prompt)
    assert words in str(caught.value)
    assert "--heads L2H1" in str(caught.value)
    # What can be known before the model is loaded costs no loading.
    assert len(kit().CellAdapter.specs) - before == (heads is None)


def test_a_sets_prompt_is_not_mixed_with_the_entrys(package: Path) -> None:
    models = package / "home" / "models"
    models.mkdir(parents=True)
    (models / "grid.yaml").write_text(
        "name: grid\nids: [org/grid]\nadapter: cell\nheads: mine\n"
        "prompt: {form: chat, template: 'the {expression}'}\n"
    )
    kept_by_the_user(package, "mine", "org/grid", "prompt: {query_row: prompt_last}\n")
    assert vg_engine.load("grid").settings.prompt == Prompt(query_row="prompt_last")
    assert vg_engine.load("grid", heads="L2H1").settings.prompt.template == "the {expression}"
    kept_by_the_user(package, "mine", "org/grid")
    assert vg_engine.load("grid").settings.prompt.template == "the {expression}"


@pytest.mark.parametrize("heads", [None, "mine"])
def test_a_prompt_that_the_model_cannot_be_asked_with_is_refused_at_once(
    package: Path, monkeypatch: pytest.MonkeyPatch, heads: str | None
) -> None:
    closed: list[bool] = []

    class Plain(kit().CellAdapter):  # type: ignore[misc]
        def vg_load_model(self, spec: ModelSpec) -> LoadedModel:
            return replace(super().vg_load_model(spec), close=lambda: closed.append(True))

        def vg_prepare_inputs(self, scenes: Any, expressions: Any, prompt: Prompt) -> Any:
            if prompt.form == "chat":
                raise InputError("it has no chat template; use the bare prompt form")
            return super().vg_prepare_inputs(scenes, expressions)

    kept_by_the_user(package, "mine", "x", "prompt: {form: chat}\n")
    with pytest.raises(HeadsError, match=r"'mine' does not fit: .*no chat template.*--heads L2H1"):
        vg_engine.load("x", adapter=Plain, heads=heads)
    assert closed == [True]
    kept_by_the_user(package, "mine", "x", "prompt: {form: bare}\n")
    assert vg_engine.load("x", adapter=Plain, heads=heads).ground(PIXELS, "1,2").heads
    assert vg_engine.load("x", adapter=Plain, heads="L2H1", prompt="chat")


def test_a_checkpoint_without_a_chat_template_refuses_heads_that_need_one(tmp_path: Path) -> None:
    for file in (catalog.OURS / "embedded").iterdir():
        if file.name != "chat_template.jinja":
            (tmp_path / file.name).symlink_to(file)
    with pytest.raises(HeadsError, match=r"'embedded' does not fit.*does not have a chat template"):
        vg_engine.load(tmp_path, heads="embedded")
    with vg_engine.load(tmp_path, heads="L3H1") as engine:
        assert engine.settings.prompt == Prompt()


@pytest.mark.parametrize("error", [InputError("no picture is good enough"), KeyError("a bug")])
def test_an_adapter_that_complains_of_all_is_heard_when_it_is_asked(
    package: Path, error: Exception
) -> None:
    class Difficult(kit().CellAdapter):  # type: ignore[misc]
        def vg_prepare_inputs(self, scenes: Any, expressions: Any) -> Any:
            raise error

    kept_by_the_user(package, "mine", "x", "prompt: {form: chat}\n")
    engine = vg_engine.load("x", adapter=Difficult)
    with pytest.raises(type(error)):
        engine.ground(PIXELS, "1,2")


def test_the_users_heads_win_over_those_that_our_entry_names(package: Path) -> None:
    ours = {"source": "llava-1.5-7b", "adapter": "cell"}
    with pytest.raises(HeadsError, match=r"'llava-1\.5-7b' was made for 32 layers"):
        vg_engine.load(**ours)
    kept_by_the_user(package, "mine", "llava-hf/llava-1.5-7b-hf")
    engine = vg_engine.load(**ours)
    assert engine.head_set is not None
    assert engine.head_set.name == "mine"


def test_an_entrys_switches_are_its_own_adapters(package: Path) -> None:
    folder = package / "home" / "models"
    folder.mkdir(parents=True)
    for adapter in ("cell", "llava"):
        (folder / "m.yaml").write_text(
            f"name: m\nfolder: .\nadapter: {adapter}\noptions: {{geometry: pad}}\n"
        )
        (package / "home" / "config.json").write_text('{"model_type": "cells"}')
        vg_engine.load("m", adapter="cell", heads="L2H1")
    assert [dict(spec.options) for spec in kit().CellAdapter.specs] == [{"geometry": "pad"}, {}]


@pytest.mark.parametrize("source", ["llava-15-7b", "llava-hf/llava-1.5-7b"])
def test_the_nearest_models_are_named_where_an_adapter_was_chosen(source: str) -> None:
    with pytest.raises(ModelNotFoundError, match="did you mean llava-") as caught:
        vg_engine.load(source, adapter="llava")
    assert "\n" not in str(caught.value)
    with pytest.raises(ModelNotFoundError) as caught:
        vg_engine.load("/none/at/all", adapter="llava")
    assert "did you mean" not in str(caught.value)


def test_an_original_checkpoint_is_sent_to_convert(tmp_path: Path) -> None:
    config = {"model_type": "internvl_chat", "architectures": ["InternVLChatModel"]}
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(
        vg_engine.ModelError, match=r"original checkpoint \(internvl_chat\).*vg-engine convert"
    ):
        vg_engine.load(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "zebra"}))
    with pytest.raises(AdapterNotFoundError, match="no adapter for models of type 'zebra'"):
        vg_engine.load(tmp_path)


def test_heads_may_come_from_a_file(tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text("name: mine\nmodels: [cells]\nmode: given\nheads: [{head: L2H1}]\n")
    with cells(heads=str(file)) as engine:
        assert engine.head_set is not None
        assert engine.head_set.name == "mine"
    with pytest.raises(InputError, match=r"none\.yaml"):
        cells(heads=str(tmp_path / "none.yaml"))
