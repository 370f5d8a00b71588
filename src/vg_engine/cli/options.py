"""Options that several commands share: which model, how it is asked and read."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperCommand, TyperGroup

from vg_engine import model_source
from vg_engine.cli import config
from vg_engine.engine_spec import MAX_PIXELS, EngineSpec
from vg_engine.plugins import entrypoints
from vg_engine.registry import catalog


class _PlainHelp:
    """Help that names arguments as the text does: no `<bool>`, no braces."""

    def get_params(self, ctx: Any) -> list[Any]:
        """Give flags no type."""
        found: list[Any] = super().get_params(ctx)  # type: ignore[misc] # of typer's classes
        for each in found:
            if getattr(each, "is_flag", False):
                each.metavar = each.metavar or ""
        return found

    def collect_usage_pieces(self, ctx: Any) -> list[str]:
        """Name required arguments without braces."""
        pieces = super().collect_usage_pieces(ctx)  # type: ignore[misc] # the same
        return [piece.strip("{}") for piece in pieces]


class Command(_PlainHelp, TyperCommand):
    """A command whose context is what its annotation says: typer makes its base class else."""

    context_class = typer.Context


class Group(_PlainHelp, TyperGroup):
    """A group whose context is what its annotation says, too."""

    context_class = typer.Context


def option(metavar: str, text: str, panel: str | None = None, *names: str, **more: Any) -> Any:
    """Describe an option as typer wants it.

    Args:
        metavar: what stands for its value in the help; "" for a flag. A DIR is not empty.
        text: its help.
        panel: of the help that it stands in.
        names: `--name`, `-n`; made from the parameter's name where there are none.
        more: as in `typer.Option`.
    """
    if metavar == "DIR":
        more["parser"] = folder
    return typer.Option(*names, metavar=metavar, help=text, rich_help_panel=panel, **more)


def folder(text: str) -> Path:
    """Read the path of a folder; nothing is not the working folder.

    Raises:
        typer.BadParameter: it is empty.
    """
    if not text.strip():
        raise typer.BadParameter("it is empty; name a folder (. is the working folder)")
    return Path(text)


def out_folder(text: str) -> Any:
    """Describe the option that names the folder of what a command writes."""
    return option("DIR", text, OUT, "--out", "-o")


def flag(text: str, panel: str | None = None, *names: str, **more: Any) -> Any:
    """Describe an option without a value."""
    return option("", text, panel, *names, **more)


MODEL, HOW, OUT = "Which model", "How to read it", "What comes out"

Model = Annotated[
    str | None,
    option(
        "MODEL",
        "Folder, hub id or known name; the embedded model without it.",
        MODEL,
        "--model",
        "-m",
    ),
]
Adapter = Annotated[
    str | None,
    option(
        "NAME",
        "Instead of the one for the model's type; vg-engine adapters lists them.",
        MODEL,
        "--adapter",
        "-a",
    ),
]
Revision = Annotated[str | None, option("REV", "Of a hub id.", MODEL)]
Device = Annotated[str, option("NAME", "auto, cpu, cuda, cuda:1, mps.", MODEL)]
Dtype = Annotated[str, option("NAME", "auto, float32, bfloat16, float16.", MODEL)]
TrustRemoteCode = Annotated[
    bool, flag("Run code that the model's repository brings.", MODEL, "--trust-remote-code")
]
Region = Annotated[
    str | None, option("NAME", "paper, otsu, mean_std, ...; mean_std:c=1.5 sets a parameter.", HOW)
]
PromptForm = Annotated[str | None, option("FORM", "bare or chat.", HOW, "--prompt")]
QueryRow = Annotated[
    str | None, option("ROW", "expression_last, expression_all or prompt_last.", HOW)
]
Template = Annotated[
    str | None, option("TEXT", "Words around the sentence: 'where is {expression}'.", HOW)
]
Ending = Annotated[
    str | None,
    option("TEXT", "Behind an expression: '.', ' .' or ''; chosen for the tokenizer.", HOW),
]
Geometry = Annotated[str | None, option("KIND", "crop or pad, for models that know both.", HOW)]
Postprocess = Annotated[
    list[str] | None, option("NAME", "A plugin that refines answers; repeats, in order.", HOW)
]
BatchSize = Annotated[int, option("N", "Queries per pass.", HOW, min=1)]
MaxPixels = Annotated[int, option("N", "Larger pictures are refused.", HOW, min=1)]
Json = Annotated[bool, flag("One JSON record per line.", OUT, "--json")]
Strict = Annotated[
    bool,
    flag("Stop at the first record that cannot be used, instead of counting it.", OUT, "--strict"),
]
Config = Annotated[
    Path | None,
    option(
        "FILE",
        "Options from a YAML file; the command line wins.",
        None,
        "--config",
        callback=config.apply,
        is_eager=True,
    ),
]


Function = Callable[..., None]


def with_engine(
    *, model: Any = Model, heads: Any = None, postprocess: bool = False, reads: bool = True
) -> Callable[[Function], Function]:
    """Give a command the options that describe an engine, in place of its parameter `spec`.

    The command is called with an `EngineSpec` there, and with `context` if it asks for it.

    Args:
        model: the annotation of the model: an option or an argument.
        heads: the annotation of `--heads`; None = the command has no such option, or its own.
        postprocess: offer `--postprocess`.
        reads: offer the options that say how answers are asked for and read.
    """
    loading = {
        "model": (model, None),
        "adapter": (Adapter, None),
        "revision": (Revision, None),
        "device": (Device, "auto"),
        "dtype": (Dtype, "auto"),
        "trust_remote_code": (TrustRemoteCode, False),
    }
    reading = {
        **({"heads": (heads, None)} if heads else {}),
        "region": (Region, None),
        "prompt": (PromptForm, None),
        "query_row": (QueryRow, None),
        "template": (Template, None),
        "ending": (Ending, None),
        "geometry": (Geometry, None),
        **({"postprocess": (Postprocess, None)} if postprocess else {}),
        "batch_size": (BatchSize, 8),
        "max_pixels": (MaxPixels, MAX_PIXELS),
    }
    offered = {**loading, **(reading if reads else {"geometry": (Geometry, None)})}

    def decorate(command: Function) -> Function:
        own = inspect.signature(command, eval_str=True)
        asks_context = "context" in own.parameters
        shared = [
            inspect.Parameter(
                name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=annotation
            )
            for name, (annotation, default) in offered.items()
        ]
        first = inspect.Parameter(
            "context", inspect.Parameter.POSITIONAL_OR_KEYWORD, annotation=typer.Context
        )
        parameters = [first]
        for name, parameter in own.parameters.items():
            if name == "spec":
                parameters += shared
            elif name != "context":
                parameters.append(parameter)

        @functools.wraps(command)
        def called(context: typer.Context, **values: Any) -> None:
            stated = {name: values.pop(name) for name in offered}
            if asks_context:
                values["context"] = context
            spec = _spec(context, stated)
            check_names(entrypoints.ADAPTERS, [spec.adapter])
            check_names(entrypoints.REGIONS, [spec.region])
            check_names(entrypoints.PLUGINS, spec.postprocessors)
            model_source.resolve(spec.model, None, None, spec.revision, read=False)
            _check_heads_and_data(spec.heads, values)
            command(spec=spec, **values)

        called.__signature__ = own.replace(parameters=parameters)  # type: ignore[attr-defined] # typer reads it
        called.__annotations__ = {each.name: each.annotation for each in parameters}
        return called

    return decorate


def _check_heads_and_data(heads: str | None, values: Mapping[str, Any]) -> None:
    """Look for the head sets and data sets that options name, before anything slow is imported."""
    several = values.get("heads")
    named = [heads, *(several if isinstance(several, list | tuple) else [])]
    for text in named:
        if text is not None and text != "auto":
            catalog.find_heads(text)
    for name in ("data", "calibration"):
        if values.get(name):
            from vg_engine.plugins.datasets.names import (  # noqa: PLC0415 - needs numpy
                find_reader,
            )

            find_reader(values[name])


def check_names(group: str, names: Iterable[str | None]) -> None:
    """Look for the plugins that options name, before anything that is slow to import.

    Raises:
        NotFoundError: there is no such plugin.
    """
    for name in names:
        if name:
            entrypoints.find(group, name.partition(":")[0].strip())


def _spec(context: typer.Context, stated: dict[str, Any]) -> EngineSpec:
    """The engine that the config and the command line describe; the command line wins."""
    named = {"form": "prompt"} | {name: name for name in ("query_row", "template", "ending")}
    prompt = {field: stated.pop(name, None) for field, name in named.items()}
    asked = {key: value for key, value in prompt.items() if value is not None}
    geometry = stated.pop("geometry")
    switches = {} if geometry is None else {"geometry": geometry}
    return EngineSpec(
        prompt={**config.nested(context, config.PROMPT), **asked},
        options={**config.nested(context, config.OPTIONS), **switches},
        postprocessors=tuple(stated.pop("postprocess", None) or ()),
        **stated,
    )
