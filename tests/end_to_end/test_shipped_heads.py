"""The head sets that ship for the embedded model are what `discover` finds, rule by rule."""

from collections.abc import Iterator

import pytest
import torch

from vg_engine import DiscoverSettings, discover, load
from vg_engine.core.heads import HeadSet
from vg_engine.core.selection.head_statistics import Criteria
from vg_engine.registry import catalog
from vg_engine.studies.discover.results import Discovery

CLOSE = 0.005  # a sentence or two of a thousand may vote otherwise on another processor


def ours() -> list[HeadSet]:
    return [one for one in catalog.head_sets() if "embedded" in one.model]


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Discovery]:
    """One pass over the calibration scenes for all rules, with the settings that the sets state."""
    (data,) = {str(one.provenance["data"]) for one in ours()}
    stated = {key: str(value) for key, value in ours()[0].provenance.items()}
    cut, connectivity = float(stated["cut"]), int(stated["connectivity"])
    criteria = Criteria(cut=cut, connectivity=connectivity, weighting=stated["weighting"])
    counts = {key: int(stated[key]) for key in ("samples", "draws", "seed")}
    settings = DiscoverSettings(**counts, k=None, criteria=criteria, per_head=0)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    rules = [one.rule for one in ours()]
    with load(heads="auto") as engine:
        folder = tmp_path_factory.mktemp("found")
        yield discover(engine, data, folder, rules=rules, settings=settings)
    torch.set_num_threads(threads)


def test_there_is_a_set_per_mode_and_one_is_the_default() -> None:
    rules = {"paper", "paper+sensitivity", "sensitivity", "consensus", "contrastive", "supervised"}
    assert rules <= {one.rule for one in ours()}
    assert catalog.head_set("embedded") in ours()


@pytest.mark.parametrize("chosen", ours(), ids=lambda one: one.name)
def test_discover_finds_it_again(chosen: HeadSet, found: Discovery) -> None:
    again, stated = found.found[chosen.rule], chosen.provenance
    k = int(str(stated["k"]))
    assert len(chosen.heads) == k
    assert again.ranked[:k] == chosen.heads
    assert again.scores[:k] == pytest.approx(chosen.score, abs=CLOSE)
    if chosen.frequency:
        assert again.frequency[:k] == pytest.approx(chosen.frequency, abs=CLOSE)
        assert again.frequency_spread[:k] == pytest.approx(chosen.spread, abs=CLOSE)
    assert stated["data_revision"] == found.settings["data_revision"]
    assert stated["model_fingerprint"] == found.settings["fingerprint"], "found on these weights"
    assert stated["prompt"] == found.settings["prompt"]
    assert stated["n"] == found.measured
    assert found.faults == ()
    controls = stated["controls"]
    assert isinstance(controls, dict)
    assert {"exam", "these heads", "mean of all heads", "centre box"} <= set(controls)
    assert any(name.startswith("random") for name in controls)
