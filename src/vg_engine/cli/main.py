"""`vg-engine`: the commands, and the one place where errors become an exit code.

0 done, 2 the user's mistake (one line that says what to do), 130 stopped by Ctrl-C, 141 stdout is
a pipe that nobody reads any more; a bug shows its traceback and exits with 1.
"""

from __future__ import annotations

import contextlib
import errno
import os
import sys
from collections.abc import Sequence
from typing import Annotated, Any

import typer

from vg_engine.cli import (
    ablate,
    console,
    convert,
    discover,
    doctor,
    heads,
    lists,
    new_adapter,
    plugins,
    run,
)
from vg_engine.cli import eval as eval_
from vg_engine.cli.options import Command, Group
from vg_engine.core.errors import OutputError, VGError

MISTAKE, STOPPED, UNREAD = 2, 130, 141
# What writing to a full disk says, without the name of a file where that is a stream.
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO)
# What typer raises for a wrong command line; its own module for that has moved between versions.
_UsageError: type[Any] = typer.BadParameter.__mro__[1]


class Commands(Group):
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
            code = self._told(
                args,
                prog_name,
                complete_var,
                standalone_mode=False,
                windows_expand_args=windows_expand_args,
                **extra,
            )
        except SystemExit as error:
            if not isinstance(error.__context__, BrokenPipeError):  # as rich ends at one
                raise
            code = _unread()
        except BrokenPipeError:
            code = _unread()
        except OSError as error:
            if error.errno not in _FULL or error.filename is not None:
                raise
            code = _unwritten(error)
        if not standalone_mode:
            return code
        sys.exit(code if isinstance(code, int) else 0)

    def _told(self, *args: Any, **more: Any) -> Any:
        """Run a command line; say what is wrong with it."""
        try:
            if sys.stdout is None:  # as Python has it where the shell closed it
                raise OutputError("stdout is closed; send it to a file or to /dev/null")
            return super().main(*args, **more)
        except VGError as error:
            console.say("error", str(error))
            return MISTAKE
        except (KeyboardInterrupt, typer.Abort):
            return _stopped()
        except _UsageError as error:
            return _misused(error)

    def invoke(self, ctx: Any) -> Any:
        """Run the command; report Ctrl-C before typer can swallow it."""
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            return _stopped()


def _stopped() -> int:
    console.say("error", "stopped; what was written stays")
    return STOPPED


def _unread() -> int:
    """End as commands do that a closed pipe ends: without a word."""
    with contextlib.suppress(OSError):  # else Python complains of what it could not write
        for stream in (sys.stdout, sys.stderr):
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
    return UNREAD


def _unwritten(error: OSError) -> int:
    with contextlib.suppress(OSError):  # stderr may be what is full
        console.say("error", f"stdout cannot be written ({error.strerror}); send it elsewhere")
    _unread()
    return MISTAKE


def _misused(error: Any) -> int:
    context = getattr(error, "ctx", None)
    command = context.command_path if context else "vg-engine"
    message = error.format_message().strip().rstrip(".")
    if getattr(error, "option_name", None) == "--mode":
        message = "no option --mode; a way to choose heads is called --rule"
    if message:  # without one, the help has just been shown
        console.say("error", f"{message}; {command} --help shows what it takes")
    return MISTAKE


app = typer.Typer(
    name="vg-engine",
    cls=Commands,
    no_args_is_help=True,
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

    Exit codes: 0 done, 2 something is wrong with the input (one line says what),
    130 stopped by Ctrl-C, 141 nobody reads the output any more, 1 a bug, or a
    check of doctor that failed.
    """


app.command("run", cls=Command)(run.run)
app.command("discover", cls=Command)(discover.discover)
app.command("eval", cls=Command)(eval_.evaluate)
app.command("ablate", cls=Command)(ablate.ablate)
app.command("adapters", cls=Command)(lists.adapters)
app.command("plugins", cls=Command)(plugins.plugins)
app.add_typer(heads.app, name="heads")
app.command("doctor", cls=Command)(doctor.doctor)
app.command("convert", cls=Command)(convert.convert)
app.command("new-adapter", cls=Command)(new_adapter.new_adapter)


def main() -> None:
    """The entry point."""
    app(prog_name="vg-engine")
