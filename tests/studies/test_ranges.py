"""Numbers with which a study cannot end, in Python and on the command line."""

import commands
import pytest

import vg_engine
from vg_engine.core.errors import InputError
from vg_engine.studies.shared.journal import differences


@pytest.mark.parametrize(
    ("settings", "number", "words"),
    [
        ("DiscoverSettings", {"seed": -1}, "seed must be at least 0, got -1"),
        ("DiscoverSettings", {"draws": 10**6}, "draws must be at most 1,000, got 1,000,000; usual"),
        ("DiscoverSettings", {"samples": 10**30}, "samples must be at most 1,000,000"),
        ("DiscoverSettings", {"per_sample": 0}, "per sample must be at least 1, got 0"),
        ("EvaluateSettings", {"draws": 10**6}, "random draws must be at most 1,000"),
        (
            "EvaluateSettings",
            {"resamples": 10**11},
            "got 100,000,000,000; usual is 2,000",
        ),
        ("EvaluateSettings", {"limit": 10**30}, "limit must be at most"),
        ("AblateSettings", {"draws": 0}, "draws must be at least 1, got 0; usual is 5 to 20"),
        ("AblateSettings", {"seed": 2**64}, "seed must be at most"),
    ],
)
def test_a_number_out_of_range_is_refused_at_once(settings, number, words):
    with pytest.raises(InputError, match=words):
        getattr(vg_engine, settings)(**number)


def test_the_commands_refuse_them_before_they_read_anything():
    assert "draws must be at most 1,000" in commands.refused("discover", "--draws", 10**6)
    assert "--seed" in commands.refused("discover", "--seed", "-1")
    compared = commands.refused("eval", "--compare", "a", "b", "--resamples", 10**11)
    assert "resamples must be at most 1,000,000" in compared


def test_settings_that_differ_are_told_in_words():
    old = {"prompts": [{"form": "bare", "query_row": "x"}], "per_head": 3}
    new = {"prompts": [{"form": "chat", "query_row": "x"}], "per_head": 4}
    assert differences(old, new) == "per head: 3 there, 4 now, prompts 1 form: bare there, chat now"
    assert "{" not in differences(old, {"prompts": [*new["prompts"], {"form": "chat"}]})
