"""`vg-engine`: the commands, and the one place where errors become an exit code.

0 done, 2 the user's mistake (one line that says what to do), 130 stopped by Ctrl-C; a bug shows
its traceback and exits with 1.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Annotated, Any

import typer
from typer.core import TyperCommand, TyperGroup

from vg_engine.cli import ablate, console, convert, discover, doctor, heads, lists, new_adapter, run
from vg_engine.cli import eval as eval_
from vg_engine.core.errors import VGError

MISTAKE, STOPPED = 2, 130
# What typer raises for a wrong command line; its own module for that has moved between versions.
_UsageError: type[Any] = typer.BadParameter.__mro__[1]


class Command(TyperCommand):
    """A command whose context is what its annotation says: typer makes its base class else."""

    context_class = typer.Context


class Commands(TyperGroup):
    """Turns errors into one line and an exit code."""

    def main(
        self,
        args: Sequence[str] | None = None,
        prog_name: str | None = None,
        complete_var: str | None = None,
        standalone_mode: bool = True,  # noqa: FBT001, FBT002 - typer's own signature
        windows_expand_args: bool = True,  # noqa: FBT001, FBT002
        **extra: Any,
    ) -> Any:
        """Run a command line and exit with its code."""
        try:
            code = super().main(
                args,
                prog_name,
                complete_var,
                standalone_mode=False,
                windows_expand_args=windows_expand_args,
                **extra,
            )
        except VGError as error:
            console.say("error", str(error))
            code = MISTAKE
        except KeyboardInterrupt:
            code = _stopped()
        except typer.Abort:
            code = _stopped()
        except _UsageError as error:
            code = _misused(error)
        if not standalone_mode:
            return code
        sys.exit(code if isinstance(code, int) else 0)

    def invoke(self, ctx: Any) -> Any:
        """Run the command; report Ctrl-C before typer can swallow it."""
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            return _stopped()


def _stopped() -> int:
    console.say("error", "stopped; what was written stays")
    return STOPPED


def _misused(error: Any) -> int:
    context = getattr(error, "ctx", None)
    command = context.command_path if context else "vg-engine"
    message = error.format_message().strip().rstrip(".")
    if message:  # without one, the help has just been shown
        console.say("error", f"{message}; {command} --help shows what it takes")
    return MISTAKE


app = typer.Typer(
    name="vg-engine",
    cls=Commands,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _version(wanted: bool) -> bool:  # noqa: FBT001 - typer calls it so
    if wanted:
        from vg_engine._version import __version__  # noqa: PLC0415 - for this flag alone

        console.result(f"vg-engine {__version__}")
        raise typer.Exit
    return wanted


@app.callback()
def _about(
    *,
    version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_version, is_eager=True, metavar="", help="Show the version."
        ),
    ] = False,
) -> None:
    """Say where a picture shows what a sentence says.

    Reads a few attention heads of a frozen vision-language model: a box, a mask,
    a soft map and a score, without training. The small embedded model answers
    unless --model names another.
    """


app.command("run", cls=Command)(run.run)
app.command("discover", cls=Command)(discover.discover)
app.command("eval", cls=Command)(eval_.evaluate)
app.command("ablate", cls=Command)(ablate.ablate)
app.command("adapters")(lists.adapters)
app.add_typer(heads.app, name="heads")
app.command("doctor", cls=Command)(doctor.doctor)
app.command("convert", cls=Command)(convert.convert)
app.command("new-adapter", cls=Command)(new_adapter.new_adapter)


def main() -> None:
    """The entry point."""
    app(prog_name="vg-engine")
