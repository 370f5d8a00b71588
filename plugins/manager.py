"""One plugin manager per engine: exactly one adapter, and the post-processors the user named.

pluggy ignores an implementation without its marker, and never passes an argument that has a
default or follows a `*`. Here every method whose name begins with `vg_` counts, and whatever pluggy
would silently ignore is refused by name.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Sequence
from typing import Any

import pluggy
from pluggy import HookimplOpts

from vg_engine.core.contract import hookspecs
from vg_engine.core.contract.hooks import EditHook, Hooks
from vg_engine.core.errors import PluginError, nearest

PREFIX = "vg_"
REQUIRED = (
    "vg_load_model",
    "vg_prepare_inputs",
    "vg_locate_image_tokens",
    "vg_extract_attention",
)
POSTPROCESS = "vg_postprocess"
EDIT = "vg_edit"


class Manager(pluggy.PluginManager):
    """A pluggy manager that treats every `vg_` method as an implementation, marked or not."""

    def __init__(self) -> None:
        super().__init__(hookspecs.PROJECT)
        self.add_hookspecs(hookspecs.Specs)

    def parse_hookimpl_opts(self, plugin: object, name: str) -> HookimplOpts | None:
        """Return the options of an implementation; a marker may add to them but is not needed."""
        if not name.startswith(PREFIX) or not callable(getattr(plugin, name, None)):
            return None
        options: HookimplOpts = {
            "wrapper": False,
            "hookwrapper": False,
            "optionalhook": False,
            "tryfirst": False,
            "trylast": False,
            "specname": None,
        }
        marked = super().parse_hookimpl_opts(plugin, name)
        if marked is not None:
            options.update(marked)
        return options


def make_hooks(
    adapter_name: str, adapter: object, postprocessors: Sequence[tuple[str, object]] = ()
) -> Hooks:
    """Register one adapter and post-processors in a fresh manager and return the façade over it.

    Args:
        adapter_name: for messages and provenance.
        adapter: an *instance* with at least the four required hooks.
        postprocessors: names and instances, in the order of their application.

    Returns:
        The typed façade over the manager's hooks.

    Raises:
        PluginError: a hook or argument is misspelt, missing or misplaced, or a name is used twice.
    """
    manager = Manager()
    check_adapter(adapter_name, adapter)
    _register(manager, adapter_name, adapter)
    for name, plugin in postprocessors:
        _check_alone(name, plugin, POSTPROCESS, "a post-processor")
        _register(manager, name, plugin)
    return Hooks(manager, adapter_name, tuple(name for name, _ in postprocessors))


def make_editor(name: str, editor: object) -> EditHook:
    """Register one editor in a fresh manager and return the façade over it.

    Args:
        name: for messages.
        editor: an *instance* with `vg_edit`.

    Raises:
        PluginError: a hook or argument is misspelt or not where it belongs.
    """
    manager = Manager()
    _check_alone(name, editor, EDIT, "an editor")
    _register(manager, name, editor)
    return EditHook(manager, name)


def _check_alone(name: str, plugin: object, hook: str, kind: str) -> None:
    """Refuse a plugin that implements another hook than the one of its kind."""
    hooks = _check(name, plugin)
    if hooks != {hook}:
        brought = ", ".join(sorted(hooks)) or "no hook"
        raise PluginError(
            f"plugin {name!r} ({type(plugin).__name__}) is not {kind}: it implements "
            f"{brought} where {hook} alone belongs"
        )


def check_adapter(name: str, adapter: object) -> None:
    """Refuse an object that cannot be registered as an adapter.

    Args:
        name: for messages.
        adapter: an instance.

    Raises:
        PluginError: a hook or argument is misspelt, missing or misplaced.
    """
    hooks = _check(name, adapter)
    missing = [hook for hook in REQUIRED if hook not in hooks]
    if missing:
        raise PluginError(
            f"adapter {name!r} ({type(adapter).__name__}) has no {', '.join(missing)}; "
            f"an adapter implements {', '.join(REQUIRED)}"
        )
    for hook, kind in ((POSTPROCESS, "a post-processor's"), (EDIT, "an editor's")):
        if hook in hooks:
            raise PluginError(
                f"adapter {name!r} implements {hook}, which is {kind}; "
                "offer it as a plugin of its own, so that users can choose it"
            )


def _register(manager: Manager, name: str, plugin: object) -> None:
    if manager.has_plugin(name):
        raise PluginError(f"plugin {name!r} is named twice; name it once, or give it another name")
    try:
        manager.register(plugin, name=name)
        manager.check_pending()
    except (pluggy.PluginValidationError, ValueError, TypeError) as error:
        cause = " ".join(str(error).split())
        raise PluginError(f"plugin {name!r} ({type(plugin).__name__}): {cause}") from error


def _check(name: str, plugin: object) -> set[str]:
    """Check a plugin's hooks against their specifications; returns their names."""
    if inspect.isclass(plugin):
        raise PluginError(f"plugin {name!r} is the class {plugin.__name__}; hand over an instance")
    if getattr(type(plugin), "__hash__", None) is None:
        raise PluginError(
            f"plugin {name!r} ({type(plugin).__name__}) cannot be hashed; "
            "make its class a dataclass(eq=False), or leave __eq__ alone"
        )
    found = set()
    for attribute, options in _implementations(plugin):
        hook = options["specname"] or attribute
        if hook not in hookspecs.names():
            if options["optionalhook"]:
                continue
            raise PluginError(
                f"plugin {name!r} ({type(plugin).__name__}): there is no hook {hook!r}; "
                f"{nearest(hook, hookspecs.names())}"
            )
        if options["wrapper"] or options["hookwrapper"]:
            raise PluginError(
                f"plugin {name!r}: {attribute} is a wrapper, and wrappers are not called here; "
                "return the answer"
            )
        _check_arguments(name, attribute, getattr(plugin, attribute), hook)
        found.add(hook)
    return found


def _implementations(plugin: object) -> Iterator[tuple[str, HookimplOpts]]:
    manager = Manager()
    for attribute in dir(plugin):
        options = manager.parse_hookimpl_opts(plugin, attribute)
        if options is not None:
            yield attribute, options


def _check_arguments(name: str, attribute: str, method: Any, hook: str) -> None:
    """Refuse arguments that the hook does not have, and those that pluggy would never pass."""
    wanted = list(inspect.signature(getattr(hookspecs.Specs, hook)).parameters)[1:]
    where = f"plugin {name!r}: {attribute}"
    for argument, parameter in inspect.signature(method).parameters.items():
        if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
            raise PluginError(
                f"{where} takes {parameter}, which is never filled; name what it uses of "
                f"{', '.join(wanted)}"
            )
        if argument not in wanted:
            if parameter.default is not parameter.empty:
                continue  # the plugin's own option: the hook is called without it
            raise PluginError(
                f"{where} has an argument {argument!r} that the hook does not have; "
                f"{nearest(argument, wanted)}"
            )
        if parameter.default is not parameter.empty:
            raise PluginError(
                f"{where} gives {argument!r} a default, and such arguments are never passed; "
                "remove the default"
            )
        if parameter.kind is not parameter.POSITIONAL_OR_KEYWORD:
            raise PluginError(
                f"{where} takes {argument!r} by keyword or position alone, and is called "
                "otherwise; remove the * or / from its signature"
            )
