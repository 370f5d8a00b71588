"""What a head set brings: its prompt, its region, its adapter's options."""

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from cells import PIXELS, STATED, cells, keep_heads, keep_model, name_of_heads

import vg_engine
from vg_engine import Head, HeadsError, InputError, NotFoundError, Prompt
from vg_engine.core.contract.model import LoadedModel, ModelSpec
from vg_engine.registry import catalog


def test_heads_that_are_found_bring_their_own_prompt(home: Path) -> None:
    keep_heads(home, "mine", "cells", f"layers: 4\nheads_per_layer: 2\n{STATED}")
    assert cells().ground(PIXELS, "1,2").provenance["prompt"] == "chat"
    agreeing = {"form": "chat", "template": "{expression}"}
    file = str(home / "heads" / "mine.yaml")
    for choices in ({}, {"heads": "mine"}, {"heads": file}, {"heads": "mine", "prompt": agreeing}):
        engine = cells(**choices)
        assert name_of_heads(engine) == "mine"
        assert engine.settings.prompt == Prompt(form="chat", query_row="prompt_last")
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
    home: Path, kit: Any, heads: str | None, prompt: Any, words: str
) -> None:
    keep_heads(home, "mine", "cells", STATED)
    chosen = catalog.head_set("mine") if heads == "the set itself" else heads
    with pytest.raises(HeadsError, match="'mine' was found with prompt") as caught:
        cells(heads=chosen, prompt=prompt)
    assert words in str(caught.value)
    assert "--heads L2H1" in str(caught.value)
    # What can be known before the model is loaded costs no loading.
    assert len(kit.CellAdapter.specs) == (heads is None)


def test_a_sets_prompt_is_not_mixed_with_the_entrys(home: Path) -> None:
    prompt = "prompt: {form: chat, template: 'the {expression}'}\n"
    keep_model(home, "grid", f"ids: [org/grid]\nadapter: cell\nheads: mine\n{prompt}")
    keep_heads(home, "mine", "org/grid", "prompt: {query_row: prompt_last}\n")
    assert vg_engine.load("grid").settings.prompt == Prompt(query_row="prompt_last")
    assert vg_engine.load("grid", heads="L2H1").settings.prompt.template == "the {expression}"
    keep_heads(home, "mine", "org/grid")
    assert vg_engine.load("grid").settings.prompt.template == "the {expression}"


@pytest.mark.parametrize("heads", [None, "mine"])
def test_a_prompt_that_the_model_does_not_take(home: Path, kit: Any, heads: str | None) -> None:
    closed: list[bool] = []

    class Plain(kit.CellAdapter):  # type: ignore[misc]
        def vg_load_model(self, spec: ModelSpec) -> LoadedModel:
            return replace(super().vg_load_model(spec), close=lambda: closed.append(True))

        def vg_prepare_inputs(self, scenes: Any, expressions: Any, prompt: Prompt) -> Any:
            if prompt.form == "chat":
                raise InputError("it has no chat template; use the bare prompt form")
            return super().vg_prepare_inputs(scenes, expressions)

    keep_heads(home, "mine", "x", "prompt: {form: chat}\n")
    with pytest.raises(HeadsError, match=r"'mine' does not fit: .*no chat template.*--heads L2H1"):
        vg_engine.load("x", adapter=Plain, heads=heads)
    assert closed == [True]
    keep_heads(home, "mine", "x", "prompt: {form: bare}\n")
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
def test_an_adapter_that_complains_of_all_is_heard(home: Path, kit: Any, error: Exception) -> None:
    class Difficult(kit.CellAdapter):  # type: ignore[misc]
        def vg_prepare_inputs(self, scenes: Any, expressions: Any) -> Any:
            raise error

    keep_heads(home, "mine", "x", "prompt: {form: chat}\n")
    engine = vg_engine.load("x", adapter=Difficult)
    with pytest.raises(type(error)):
        engine.ground(PIXELS, "1,2")


def test_heads_that_are_found_bring_their_region_and_the_adapters_options(
    home: Path, kit: Any
) -> None:
    stated = "adapter: cell\nregion: peak_share:share=0.75\noptions: {geometry: pad}\n"
    keep_heads(home, "mine", "others", stated)
    catalog.set_default("cells", "mine")
    for heads in ("mine", None):
        engine = cells(heads=heads)
        assert engine.settings.region_name == "peak_share:share=0.75"
        assert dict(kit.CellAdapter.specs[-1].options) == {"geometry": "pad"}
        assert engine.ground(PIXELS, "1,2").provenance["options"] == {"geometry": "pad"}
        assert not any("was found with" in note for note in engine.ground(PIXELS, "1,2").notes)
    answer = cells(region="otsu", options={"geometry": "crop"}).ground(PIXELS, "1,2")
    assert answer.provenance["options"] == {"geometry": "crop"}
    assert {
        "head set 'mine' was found with region peak_share:share=0.75, not otsu",
        "head set 'mine' was found with geometry pad, not crop",
    } <= set(answer.notes)


def test_settings_for_one_call(home: Path) -> None:
    keep_heads(home, "mine", "cells", f"layers: 4\nheads_per_layer: 2\nregion: otsu\n{STATED}")
    engine = cells(heads="L2H1")
    answer = engine.ground(PIXELS, "1,2", heads="mine")
    found = {name: answer.provenance[name] for name in ("head_set", "region", "prompt")}
    assert found == {"head_set": "mine", "region": "otsu", "prompt": "chat"}
    with engine.open(PIXELS) as scene:
        (listed,) = scene.ground_all(["1,2"], heads=[Head(2, 1), "3.0"], region="paper", k=2)
        assert listed.heads == (Head(2, 1), Head(3, 0))
        assert scene.ground("1,2", heads="auto").provenance["head_set"] == "auto"
        assert scene.ground("1,2").provenance == engine.stamp()
    assert engine.variant(prompt={"form": "chat"}).settings.prompt == Prompt(form="chat")
    for changes, error, words in (
        ({"haeds": "L2H1"}, InputError, "has no 'haeds'; did you mean heads"),
        ({"heads": "mine", "prompt": "bare"}, HeadsError, "was found with prompt"),
        ({"heads": "L9H9"}, HeadsError, "out of range"),
        ({"region": "papr"}, NotFoundError, "did you mean paper"),
    ):
        with pytest.raises(error, match=words):
            engine.ground(PIXELS, "1,2", **changes)
    varied = engine.variant(heads="mine", region="paper").ground(PIXELS, "1,2")
    assert "head set 'mine' was found with region otsu, not paper" in varied.notes


def test_what_a_head_set_brings_and_cannot_be_had_is_said(home: Path) -> None:
    keep_heads(home, "mine", "cells", "region: gone\noptions: {geometry: pad}\n")
    # Found by the model's name, once its shape is known: too late for options of the adapter.
    answer = cells().ground(PIXELS, "1,2")
    assert "head set 'mine' was found with region gone, not edge_level" in answer.notes
    assert "head set 'mine' was found with geometry pad, not the default" in answer.notes
    keep_heads(home, "mine", "cells", "adapter: another\noptions: {geometry: pad}\n")
    assert not any("was found with" in note for note in cells().ground(PIXELS, "1,2").notes)


def test_a_copy_of_the_embedded_model_reads_as_well_as_the_original(tmp_path: Path) -> None:
    copied = shutil.copytree(catalog.OURS / "embedded", tmp_path / "own")
    with vg_engine.load() as known, vg_engine.load(copied, heads="embedded") as own:
        assert own.settings == known.settings
        answers = [each.ground("examples/scene.png", "the red circle") for each in (known, own)]
    assert answers[0].box == answers[1].box
    assert answers[0].provenance["options"] == answers[1].provenance["options"]


def test_the_users_heads_win_over_those_that_our_entry_names(home: Path) -> None:
    with pytest.raises(HeadsError, match=r"'llava-1\.5-7b' was made for 32 layers"):
        vg_engine.load("llava-1.5-7b", adapter="cell")
    keep_heads(home, "mine", "llava-hf/llava-1.5-7b-hf")
    assert name_of_heads(vg_engine.load("llava-1.5-7b", adapter="cell")) == "mine"
