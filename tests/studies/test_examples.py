"""The studies at the door: their examples run, and they take a data set or its name alike."""

import doctest
from pathlib import Path

import pytest

import vg_engine

FEW = vg_engine.DiscoverSettings(samples=6, draws=1)
SCENES = "scenes?split=calibration&n=6"
pytestmark = pytest.mark.usefixtures("shell")


@pytest.mark.parametrize("name", ["discover", "evaluate", "compare", "ablate"])
def test_the_example_of_its_docstring_runs(name) -> None:
    study = getattr(vg_engine, name)
    for heading in ("Args:", "Returns:", "Raises:", "Example:"):
        assert heading in study.__doc__
    (example,) = doctest.DocTestFinder(recurse=False).find(study, name, globs={})
    assert example.examples
    assert doctest.DocTestRunner(verbose=False).run(example).failed == 0


def test_a_result_saves_what_the_study_writes(monkeypatch) -> None:
    data = vg_engine.open_data(SCENES)
    passes = []
    read = type(data).__iter__

    def counted(self):
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
    results = (("out", found, 3), ("out", named, 3), ("scored", scored, 2), ("ablated", ablated, 2))
    for folder, result, count in results:
        result.save("again")
        saved = list(Path("again").iterdir())
        assert len(saved) == count
        for path in saved:
            # The report tells how to use the head set that lies beside it.
            here = path.read_bytes().replace(b"again/", f"{folder}/".encode())
            assert Path(folder, path.name).read_bytes() == here, (folder, path.name)
            path.unlink()
