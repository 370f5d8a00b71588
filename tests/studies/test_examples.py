"""The studies at the door: their examples run, and they take a data set or its name alike."""

from __future__ import annotations

import doctest
from pathlib import Path
from typing import Any

import pytest

import vg_engine

FEW = vg_engine.DiscoverSettings(samples=6, draws=1)
SCENES = "scenes?split=calibration&n=6"


@pytest.mark.parametrize("name", ["discover", "evaluate", "compare", "ablate"])
@pytest.mark.usefixtures("shell")
def test_the_example_of_its_docstring_runs(name: str) -> None:
    study = getattr(vg_engine, name)
    for heading in ("Args:", "Returns:", "Raises:", "Example:"):
        assert heading in study.__doc__
    (example,) = doctest.DocTestFinder(recurse=False).find(study, name, globs={})
    assert example.examples
    assert doctest.DocTestRunner(verbose=False).run(example).failed == 0


@pytest.mark.usefixtures("shell")
def test_a_result_saves_what_the_study_writes(monkeypatch: pytest.MonkeyPatch) -> None:
    data = vg_engine.open_data(SCENES)
    passes: list[int] = []
    read = type(data).__iter__

    def counted(self: Any) -> Any:
        passes.append(1)
        return read(self)

    monkeypatch.setattr(type(data), "__iter__", counted)
    with vg_engine.load(heads="auto") as engine:
        found = vg_engine.discover(engine, data, "out", settings=FEW)
        assert len(passes) == 1, "a data set is read once"
        named = vg_engine.discover(engine, SCENES, settings=FEW)
        settings = vg_engine.EvaluateSettings(limit=4, draws=2, resamples=20)
        scored = vg_engine.evaluate(engine, data, Path("scored"), settings=settings)
        few = vg_engine.AblateSettings(("k",), samples=6, draws=1, limit=4, resamples=20)
        ablated = vg_engine.ablate(engine, data, SCENES, "ablated", settings=few)
    # Everything that is written is in the result, with no engine left to ask.
    found.save("again")
    named.save("named")
    scored.save("scored-again")
    ablated.save("ablated-again")
    for folder, again in (
        ("out", "again"),
        ("out", "named"),
        ("scored", "scored-again"),
        ("ablated", "ablated-again"),
    ):
        saved = {path.name: path.read_bytes() for path in Path(again).iterdir()}
        assert len(saved) == (3 if folder == "out" else 2)
        for name, content in saved.items():
            # The report tells how to use the head set that lies beside it.
            here = content.replace(f"{again}/".encode(), f"{folder}/".encode())
            assert Path(folder, name).read_bytes() == here, (again, name)
