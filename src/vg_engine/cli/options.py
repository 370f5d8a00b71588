"""Options that several commands share: which model, how it is asked and read."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from vg_engine.cli import config
from vg_engine.engine_spec import MAX_PIXELS, EngineSpec

MODEL, HOW, OUT = "Which model", "How to read it", "What comes out"

Model = Annotated[
    str | None,
    typer.Option(
        "--model",
        "-m",
        metavar="MODEL",
        rich_help_panel=MODEL,
        help="Folder, hub id or known name; the embedded model without it.",
    ),
]
Adapter = Annotated[
    str | None,
    typer.Option(
        "--adapter",
        "-a",
        metavar="NAME",
        rich_help_panel=MODEL,
        help="Instead of the one for the model's type; vg-engine adapters lists them.",
    ),
]
Revision = Annotated[
    str | None, typer.Option(metavar="REV", help="Of a hub id.", rich_help_panel=MODEL)
]
Device = Annotated[
    str, typer.Option(metavar="NAME", help="auto, cpu, cuda, cuda:1, mps.", rich_help_panel=MODEL)
]
Dtype = Annotated[
    str,
    typer.Option(metavar="NAME", help="auto, float32, bfloat16, float16.", rich_help_panel=MODEL),
]
TrustRemoteCode = Annotated[
    bool,
    typer.Option(
        "--trust-remote-code",
        metavar="",
        rich_help_panel=MODEL,
        help="Run code that the model's repository brings.",
    ),
]
Region = Annotated[
    str | None,
    typer.Option(
        metavar="NAME",
        help="paper, otsu, mean_std, ...; mean_std:c=1.5 sets a parameter.",
        rich_help_panel=HOW,
    ),
]
PromptForm = Annotated[
    str | None,
    typer.Option("--prompt", metavar="FORM", help="bare or chat.", rich_help_panel=HOW),
]
QueryRow = Annotated[
    str | None,
    typer.Option(
        metavar="ROW",
        help="expression_last, expression_all or prompt_last.",
        rich_help_panel=HOW,
    ),
]
Template = Annotated[
    str | None,
    typer.Option(
        metavar="TEXT",
        help="Words around the sentence: 'where is {expression}'.",
        rich_help_panel=HOW,
    ),
]
Geometry = Annotated[
    str | None,
    typer.Option(
        metavar="KIND", help="crop or pad, for models that know both.", rich_help_panel=HOW
    ),
]
Postprocess = Annotated[
    list[str] | None,
    typer.Option(
        metavar="NAME",
        help="A plugin that refines answers; repeats, in order.",
        rich_help_panel=HOW,
    ),
]
BatchSize = Annotated[
    int, typer.Option(min=1, metavar="N", help="Queries per pass.", rich_help_panel=HOW)
]
MaxPixels = Annotated[
    int,
    typer.Option(min=1, metavar="N", help="Larger pictures are refused.", rich_help_panel=HOW),
]
Json = Annotated[
    bool,
    typer.Option("--json", metavar="", help="One JSON record per line.", rich_help_panel=OUT),
]
Strict = Annotated[
    bool,
    typer.Option(
        "--strict",
        metavar="",
        rich_help_panel=OUT,
        help="Stop at the first record that cannot be used, instead of counting it.",
    ),
]
Config = Annotated[
    Path | None,
    typer.Option(
        "--config",
        metavar="FILE",
        callback=config.apply,
        is_eager=True,
        help="Options from a YAML file; the command line wins.",
    ),
]


Command = Callable[..., None]


def with_engine(*, heads: Any = None, postprocess: bool = False) -> Callable[[Command], Command]:
    """Give a command the options that describe an engine, in place of its parameter `spec`.

    The command is called with an `EngineSpec` there, and with `context` if it asks for it.

    Args:
        heads: the annotation of `--heads`; None = the command has no such option, or its own.
        postprocess: offer `--postprocess`.
    """
    offered = {
        "model": (Model, None),
        "adapter": (Adapter, None),
        "revision": (Revision, None),
        "device": (Device, "auto"),
        "dtype": (Dtype, "auto"),
        "trust_remote_code": (TrustRemoteCode, False),
        **({"heads": (heads, None)} if heads else {}),
        "region": (Region, None),
        "prompt": (PromptForm, None),
        "query_row": (QueryRow, None),
        "template": (Template, None),
        "geometry": (Geometry, None),
        **({"postprocess": (Postprocess, None)} if postprocess else {}),
        "batch_size": (BatchSize, 8),
        "max_pixels": (MaxPixels, MAX_PIXELS),
    }

    def decorate(command: Command) -> Command:
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
            command(spec=_spec(context, stated), **values)

        called.__signature__ = own.replace(parameters=parameters)  # type: ignore[attr-defined] # typer reads it
        called.__annotations__ = {each.name: each.annotation for each in parameters}
        return called

    return decorate


def _spec(context: typer.Context, stated: dict[str, Any]) -> EngineSpec:
    """The engine that the config and the command line describe; the command line wins."""
    prompt = {
        "form": stated.pop("prompt"),
        "query_row": stated.pop("query_row"),
        "template": stated.pop("template"),
    }
    said = {key: value for key, value in prompt.items() if value is not None}
    geometry = stated.pop("geometry")
    switches = {} if geometry is None else {"geometry": geometry}
    return EngineSpec(
        prompt={**config.nested(context, config.PROMPT), **said},
        options={**config.nested(context, config.OPTIONS), **switches},
        postprocessors=tuple(stated.pop("postprocess", None) or ()),
        **stated,
    )


def prompt_fields(
    context: typer.Context,
    *,
    form: str | None,
    query_row: str | None,
    template: str | None = None,
) -> dict[str, str]:
    """What the config and the command line say of the prompt; the command line wins."""
    said = {"form": form, "query_row": query_row, "template": template}
    stated: dict[str, str] = dict(config.nested(context, config.PROMPT))
    return stated | {key: value for key, value in said.items() if value is not None}


def adapter_options(context: typer.Context, geometry: str | None) -> Mapping[str, Any]:
    """Switches of the adapter, from the config and the command line."""
    stated = dict(config.nested(context, config.OPTIONS))
    return stated | ({} if geometry is None else {"geometry": geometry})
