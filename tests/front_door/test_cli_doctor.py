"""`vg-engine doctor`: a table, an exit code, and what to report."""

import json
from functools import partial

import commands
import pytest

from vg_engine.model_adapters.families.llava import LlavaAdapter
from vg_engine.plugins import entrypoints
from vg_engine.testing.tiny import tiny_llava

call = partial(commands.call, "doctor")


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> str:
    return str(tiny_llava(tmp_path_factory.mktemp("doctor") / "llava", layers=2))


def test_a_sound_checkpoint_is_well(folder):
    done = call(folder, "--device", "cpu")
    assert "vg-engine 0.1.0" in done.stdout
    assert "ASSISTANT:" in done.stdout
    assert "failed" not in done.stdout
    assert done.stderr.startswith("note: Pictures are cut to a square")  # no bar of another's


def test_json_has_a_line_per_check_and_the_facts(folder):
    done = call(folder, "--json", "--geometry", "pad")
    *findings, facts = map(json.loads, done.stdout.splitlines())
    assert {finding["status"] for finding in findings} == {"ok"}
    assert facts["model"]["adapter"] == "llava"
    assert facts["model"]["shape"] == "2 layers x 4 heads"
    assert facts["prompts"]["chat"].startswith("USER: <image>")
    assert "padded to a square" in done.stderr


def test_a_failure_exits_with_one_and_names_whom_to_tell(folder, monkeypatch):
    def doubled(adapter, model, tensors):
        return 2 * (tensors["attention_mask"].cumsum(-1) - 1).clamp(min=0)

    monkeypatch.setattr(LlavaAdapter, "position_ids", doubled)
    done = call(folder, code=1)
    assert "checks failed (rows equal eager attention)" in done.stderr
    assert "report this table and these facts to vg-engine 0.1.0" in done.stderr
    assert done.stderr.count("error:") == 1


def test_what_is_no_model_is_one_line(tmp_path):
    done = call(str(tmp_path), code=2)
    assert done.stderr.splitlines()[-1].startswith("error: ")
    assert "config.json" in done.stderr


def test_what_a_check_says_is_shown_as_it_is(folder, monkeypatch):
    """Rich would take `[/INST]` for the end of a style."""

    def breaking(self, model, inputs, request):
        raise RuntimeError("[/INST] at [0, 1] and [red]")

    monkeypatch.setattr(LlavaAdapter, "vg_extract_attention", breaking)
    done = call(folder, code=1)
    assert isinstance(done.exception, SystemExit)
    assert "[/INST] at [0, 1] and [red]" in " ".join(done.stdout.split())


def test_prompts_that_cannot_be_shown_stop_nothing(folder, monkeypatch):
    def breaking(*_, **__):
        raise RuntimeError("no prompt today")

    monkeypatch.setattr(LlavaAdapter, "bare_prompt", breaking)
    done = call(folder, code=1)
    assert isinstance(done.exception, SystemExit)
    assert "(RuntimeError: no prompt today)" in done.stdout
    assert "checks failed (prompts, " in done.stderr


def test_an_adapter_that_is_offered_for_a_model_type_alone_is_examined(folder, monkeypatch):
    """Its package is found by its class, not by a name that nobody gave it."""
    group = entrypoints.MODEL_TYPES
    ours = {group: entrypoints.installed(group)}
    monkeypatch.setattr(entrypoints, "installed", lambda asked: ours.get(asked, ()))
    facts = json.loads(call(folder, "--json").stdout.splitlines()[-1])
    assert facts["model"]["package"].startswith("vg-engine ")


def test_an_entrys_switches_are_in_force_as_when_it_runs():
    """The embedded model is padded, with its adapter named or not."""
    for more in ((), ("--adapter", "llava")):
        assert "padded to a square" in call(*more).stderr
