# ruff: noqa: ARG005 - a planted hook has the signature that is tried
from dataclasses import dataclass

import pluggy
import pytest

from vg_engine.core.contract import hookspecs
from vg_engine.core.errors import PluginError
from vg_engine.plugins.manager import make_hooks

hookimpl = pluggy.HookimplMarker(hookspecs.PROJECT)


class Adapter:
    """Unmarked methods, and only the arguments that are used."""

    def vg_load_model(self, spec):
        return f"loaded {spec}"

    def vg_prepare_inputs(self, model, scenes):
        return model, scenes

    def vg_locate_image_tokens(self):
        return "located"

    def vg_extract_attention(self, request):
        return request


class Half:
    def vg_load_model(self, spec): ...


class Refiner:
    def vg_postprocess(self, groundings):
        return groundings


@dataclass
class Mutable(Refiner):
    strength: int = 1


def variant(**methods):
    return type("Variant", (Adapter,), methods)()


def test_unmarked_methods_are_implementations():
    hooks = make_hooks("plain", Adapter(), [("refine", Refiner())])
    assert hooks.adapter == "plain"
    assert hooks.postprocessors == ("refine",)
    call = hooks.manager.hook
    assert call.vg_load_model(spec="x") == "loaded x"
    given = {"model": 1, "scenes": "open", "expressions": [], "prompt": None}
    assert call.vg_prepare_inputs(**given) == (1, "open")
    other = make_hooks("plain", Adapter()).manager  # engines share nothing
    assert other is not hooks.manager
    assert other.get_plugin("plain") is not hooks.manager.get_plugin("plain")


def test_an_override_without_marker_beats_the_marked_parent():
    class Marked(Adapter):
        @hookimpl(trylast=True)
        def vg_locate_image_tokens(self):
            return "parent"

    class Child(Marked):
        def vg_locate_image_tokens(self):
            return "child"

    for adapter, answer in ((Marked(), "parent"), (Child(), "child")):
        hooks = make_hooks("a", adapter)
        assert hooks.manager.hook.vg_locate_image_tokens(model=None, inputs=None) == answer


def test_what_is_no_hook_or_a_plugins_own_is_left_alone():
    def helper(self):
        raise AssertionError

    @hookimpl(optionalhook=True)
    def vg_later(self): ...

    others = {"vg_version": "1.0", "plain": 3, "helper": helper, "vg_later": vg_later}
    adapter = variant(vg_load_model=lambda self, spec, _own=7: (spec, _own), **others)
    assert make_hooks("a", adapter).manager.hook.vg_load_model(spec=1) == (1, 7)


@hookimpl(wrapper=True)
def wrapping(self, spec):
    return (yield)


@pytest.mark.parametrize(
    ("name", "method", "words"),
    [
        ("vg_lod_model", lambda self, spec: None, "no hook 'vg_lod_model'; did you mean vg_load"),
        ("vg_load_model", lambda self, spek: None, "argument 'spek'.*did you mean spec"),
        ("vg_load_model", lambda self, *, spec: None, "'spec' by keyword.*remove the"),
        ("vg_load_model", lambda self, *args: None, r"takes \*args, which is never filled"),
        ("vg_load_model", lambda self, **rest: None, r"takes \*\*rest, which is never filled"),
        ("vg_load_model", lambda self, spec=None: None, "gives 'spec' a default.*remove the def"),
        ("vg_load_model", wrapping, "vg_load_model is a wrapper"),
        ("vg_postprocess", lambda self, scene: None, "is a post-processor's"),
    ],
)
def test_what_pluggy_would_drop_in_silence_is_refused(name, method, words):
    with pytest.raises(PluginError, match=words):
        make_hooks("bad", variant(**{name: method}))


SAME = Refiner()


@pytest.mark.parametrize(
    ("adapter", "others", "words"),
    [
        (Half(), [], "has no vg_prepare_inputs, vg_locate_image_tokens, vg_e"),
        (Adapter, [], "is the class Adapter; hand over an instance"),
        (Adapter(), [("b", Adapter())], "is not a post-processor: it implements vg_extract"),
        (Adapter(), [("nothing", object())], "implements no hook"),
        (Adapter(), [("r", Refiner()), ("r", Refiner())], "'r' is named twice"),
        (Adapter(), [("a", Refiner())], "'a' is named twice"),
        (Adapter(), [("r", SAME), ("s", SAME)], "already registered"),
        (Adapter(), [("m", Mutable())], r"dataclass\(eq=False\)"),  # it cannot be hashed
    ],
)
def test_plugins_of_another_role_name_or_kind_are_refused(adapter, others, words):
    with pytest.raises(PluginError, match=words):
        make_hooks("a", adapter, others)
