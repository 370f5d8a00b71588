"""What the door shows, and how little it costs to look."""

import subprocess
import sys

import pytest
from commands import call, refused

import vg_engine
from vg_engine.core import errors

HEAVY = {"numpy", "torch", "transformers", "cv2", "scipy", "PIL"}


def test_every_public_name_is_there() -> None:
    assert set(vg_engine.__all__) <= set(dir(vg_engine))
    for name in vg_engine.__all__:
        assert getattr(vg_engine, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        vg_engine.nothing  # noqa: B018


def test_every_error_is_shown_at_the_door() -> None:
    tree = {n for n, e in vars(errors).items() if isinstance(e, type) and issubclass(e, Exception)}
    assert tree == {name for name in vg_engine.__all__ if name.endswith("Error")}
    for name in tree:
        assert name in str(errors.__doc__).split(), name


@pytest.mark.parametrize(
    "code",
    [
        "import vg_engine; vg_engine.__version__; vg_engine.VGError; vg_engine.Head",
        *(
            f"from typer.testing import CliRunner; from vg_engine.cli.main import app\n"
            f"done = CliRunner().invoke(app, {arguments!r}); assert done.exit_code == 0, done"
            for arguments in (
                ["--help"],
                ["run", "--help"],
                ["adapters"],
                ["adapters", "--json"],
                ["plugins"],
                ["heads"],
                ["heads", "show", "llava-1.5-7b"],
                ["heads", "use", "embedded"],
                ["heads", "compare", "embedded", "embedded-paper"],
                ["convert", "--help"],
                ["--version"],
            )
        ),
    ],
)
def test_looking_costs_nothing_heavy(code: str) -> None:
    code += f"\nimport sys; print(sorted({HEAVY!r} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stdout.splitlines()[-1:] == ["[]"], done.stderr


def test_the_version_the_help_and_mistakes() -> None:
    assert call("--version").stdout == f"vg-engine {vg_engine.__version__}\n"
    bare = call(code=2)
    assert "error:" not in bare.output
    assert "Usage" in bare.output
    for mistake, words in (("rum", "run"), ("--none", "--none")):
        assert words in refused(mistake)


MISTAKES = """
import sys
import numpy as np, torch, vg_engine
engine = vg_engine.load()
picture = np.zeros((50, 50, 3), np.uint8)
answer = engine.ground(picture, "it")
for act in (
    lambda: vg_engine.load(torch.nn.Linear(1, 1)),
    lambda: engine.ground(picture, ["a circle", "a square"]),
    lambda: list(engine.ground_many([picture])),
    lambda: list(engine.ground_many(["a.png"])),
    lambda: list(engine.ground_many([(picture, "it", "more")])),
    lambda: vg_engine.open_data(__import__("pathlib").Path("set.jsonl")),
    lambda: vg_engine.load(heads=7),
    lambda: list(engine.ground_many(None)),
    lambda: engine.ground_all(picture, None),
    lambda: engine.maps(picture, "it", [(1, 1)]),
    lambda: engine.maps(picture, "it", prompt="chat"),
    lambda: engine.variant(region="ots"),
    lambda: engine.variant(batch_size=2.5),
    lambda: engine.variant(haeds="L1H1"),
    lambda: engine.refine(answer, picture),
    lambda: list(engine.ground_many([(picture, " ")], errors="ignore")),
    lambda: vg_engine.doctor(engine.model.module),
    lambda: __import__("pickle").dumps(engine),
    lambda: engine.ground(picture, "it", heads=7),
    lambda: vg_engine.evaluate(engine, {"image": "a.png", "text": "it"}),
    lambda: vg_engine.discover(engine, [7]),
):
    try:
        act()
    except vg_engine.VGError as error:
        assert "\\n" not in str(error)
        print(str(error)[:90])
"""


def test_likely_mistakes_of_python_callers_are_one_line_of_ours() -> None:
    """In a process of its own: there no import hook checks the types first, as here."""
    done = subprocess.run(
        [sys.executable, "-c", MISTAKES], capture_output=True, text=True, check=False
    )
    lines = done.stdout.splitlines()
    words = (
        "got Linear; hand a model",
        "ground_all takes several",
        *["a request is a pair"] * 3,
        "no data set 'set.jsonl'",
        "heads are written as L14H24,L14H13, got int",
        "in a list or so, got NoneType",
        "ground_all takes a list",
        "'(1, 1)' names no head",
        "prompt of an engine is a vg_engine.Prompt, got str",
        "no region 'ots'; did you mean otsu",
        "batch_size of an engine is a whole number, got float",
        "an engine has no 'haeds'; did you mean heads",
        "a list of groundings",
        "the expression is empty",
        "got LlavaForConditionalGeneration; hand a model",
        "send its EngineSpec instead",
        "heads are written as L14H24,L14H13, got int",
        "samples come as a list",
        "samples holds no sample",
    )
    assert len(lines) == len(words), done.stderr
    for line, expected in zip(lines, words, strict=True):
        assert expected in line
