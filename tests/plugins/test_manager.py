# ruff: noqa: ARG005 - a planted hook has the signature that is tried
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pluggy
import pytest

from vg_engine.core.contract import hookspecs
from vg_engine.core.errors import PluginError
from vg_engine.plugins.manager import make_hooks

hookimpl = pluggy.HookimplMarker(hookspecs.PROJECT)


class Adapter:
    """Unmarked methods, and only the arguments that are used."""

    def vg_load_model(self, spec: object) -> str:
        return f"loaded {spec}"

    def vg_prepare_inputs(self, model: object, scenes: object) -> object:
        return model, scenes

    def vg_locate_image_tokens(self) -> str:
        return "located"

    def vg_extract_attention(self, request: object) -> object:
        return request


class Refiner:
    def vg_postprocess(self, groundings: object) -> object:
        return groundings


def variant(**methods: Callable[..., Any]) -> object:
    return type("Variant", (Adapter,), dict(methods))()


def test_unmarked_methods_are_implementations() -> None:
    hooks = make_hooks("plain", Adapter(), [("refine", Refiner())])
    assert hooks.adapter == "plain"
    assert hooks.postprocessors == ("refine",)
    call = hooks.manager.hook
    assert call.vg_load_model(spec="x") == "loaded x"
    assert call.vg_prepare_inputs(model=1, scenes="open", expressions=[], prompt=None) == (
        1,
        "open",
    )


def test_an_override_without_marker_beats_the_marked_parent() -> None:
    class Marked(Adapter):
        @hookimpl(trylast=True)
        def vg_locate_image_tokens(self) -> str:
            return "parent"

    class Child(Marked):
        def vg_locate_image_tokens(self) -> str:
            return "child"

    for adapter, answer in ((Marked(), "parent"), (Child(), "child")):
        hooks = make_hooks("a", adapter)
        assert hooks.manager.hook.vg_locate_image_tokens(model=None, inputs=None) == answer


def test_attributes_and_other_methods_are_left_alone() -> None:
    class Rich(Adapter):
        vg_version = "1.0"
        plain = 3

        def helper(self) -> None:
            raise AssertionError

    make_hooks("rich", Rich())


def test_engines_share_nothing() -> None:
    one, two = make_hooks("a", Adapter()), make_hooks("a", Adapter())
    assert one.manager is not two.manager
    assert one.manager.get_plugin("a") is not two.manager.get_plugin("a")


@pytest.mark.parametrize(
    ("name", "method", "words"),
    [
        ("vg_lod_model", lambda self, spec: None, "no hook 'vg_lod_model'; did you mean vg_load"),
        ("vg_load_model", lambda self, spek: None, "argument 'spek'.*did you mean spec"),
        ("vg_load_model", lambda self, *, spec: None, "'spec' by keyword.*remove the"),
        ("vg_load_model", lambda self, *args: None, r"takes \*args, which is never filled"),
        ("vg_load_model", lambda self, **rest: None, r"takes \*\*rest, which is never filled"),
        (
            "vg_prepare_inputs",
            lambda self, model, scenes=None: None,
            "gives 'scenes' a default.*remove the default",
        ),
    ],
)
def test_what_pluggy_would_drop_in_silence_is_refused(
    name: str, method: Callable[..., Any], words: str
) -> None:
    with pytest.raises(PluginError, match=words):
        make_hooks("bad", variant(**{name: method}))


def test_a_default_of_the_plugins_own_is_its_business() -> None:
    adapter = variant(vg_load_model=lambda self, spec, _own=7: (spec, _own))
    assert make_hooks("a", adapter).manager.hook.vg_load_model(spec=1) == (1, 7)


def test_an_optional_hook_of_a_later_version_is_allowed() -> None:
    @hookimpl(optionalhook=True)
    def vg_later(self: object) -> None: ...

    make_hooks("later", variant(vg_later=vg_later))


def test_wrappers_are_refused() -> None:
    @hookimpl(wrapper=True)
    def vg_load_model(self: object, spec: object) -> Any:
        return (yield)

    with pytest.raises(PluginError, match="vg_load_model is a wrapper"):
        make_hooks("wrapping", variant(vg_load_model=vg_load_model))


def test_an_adapter_without_its_hooks_is_refused() -> None:
    class Half:
        def vg_load_model(self, spec: object) -> None: ...

    with pytest.raises(PluginError, match="has no vg_prepare_inputs, vg_locate_image_tokens, vg_e"):
        make_hooks("half", Half())


def test_roles_do_not_mix() -> None:
    with pytest.raises(PluginError, match="is a post-processor's"):
        make_hooks("both", variant(vg_postprocess=lambda self, scene: None))
    with pytest.raises(PluginError, match="is not a post-processor: it implements vg_extract"):
        make_hooks("a", Adapter(), [("second", Adapter())])
    with pytest.raises(PluginError, match="implements no hook"):
        make_hooks("a", Adapter(), [("nothing", object())])


def test_names_and_objects_come_once() -> None:
    with pytest.raises(PluginError, match="'r' is named twice"):
        make_hooks("a", Adapter(), [("r", Refiner()), ("r", Refiner())])
    with pytest.raises(PluginError, match="'a' is named twice"):
        make_hooks("a", Adapter(), [("a", Refiner())])
    same = Refiner()
    with pytest.raises(PluginError, match="already registered"):
        make_hooks("a", Adapter(), [("r", same), ("s", same)])


def test_a_class_is_not_an_instance() -> None:
    with pytest.raises(PluginError, match="is the class Adapter; hand over an instance"):
        make_hooks("a", Adapter)


def test_a_plugin_that_cannot_be_hashed_is_refused_at_once() -> None:
    @dataclass
    class Mutable(Refiner):
        strength: int = 1

    with pytest.raises(PluginError, match=r"dataclass\(eq=False\)"):
        make_hooks("a", Adapter(), [("m", Mutable())])
