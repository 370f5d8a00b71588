"""Commands as people type them."""

from typer.testing import CliRunner, Result

from vg_engine.cli.main import app


def call(*arguments: object, code: int = 0, stdin: str | None = None) -> Result:
    """Run a `vg-engine` command, which has to exit with `code`."""
    done = CliRunner().invoke(app, [str(each) for each in arguments], input=stdin)
    assert done.exit_code == code, done.output
    return done


def refused(*arguments: object, notes: bool = False) -> str:
    """The one line that a mistake gets; there may be notes before it if they are allowed."""
    done = call(*arguments, code=2)
    assert done.stdout == ""
    (error,) = (x for x in done.stderr.splitlines() if not (notes and x.startswith("note: ")))
    assert error.startswith("error: ")
    return error
