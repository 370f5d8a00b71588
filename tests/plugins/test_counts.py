import pytest
import yaml

from vg_engine.plugins.datasets import counts


@pytest.mark.parametrize(
    ("name", "by", "scored", "sentences", "references"),
    [
        ("refcoco", "unc", 21586, 142210, 50000),
        ("refcoco+", "unc", 21373, 141564, 49856),
        ("refcocog", "umd", 14498, 95010, 49822),
        ("refcocog", "google", None, 95010, 49822),
    ],
)
def test_the_published_counts_add_up(name, by, scored, sentences, references):
    splits = ("val", "test", "testA", "testB", "train")
    *tested, train = [counts.published(name, by, split) for split in splits]
    assert scored in (None, sum(one.sentences or 0 for one in tested))
    assert sum(one.sentences or 0 for one in [*tested, train]) == sentences
    assert sum(one.references or 0 for one in [*tested, train]) == references
    assert (counts.published(name, by, "test") == counts.Published()) == (by != "umd")


def test_every_count_has_its_source():
    held = yaml.safe_load(counts._FILE.read_text(encoding="utf-8"))
    stated = 0
    for splits in held.values():
        for one in splits.values():
            assert set(one) == {"sources", "splits"}
            for numbers in one["splits"].values():
                assert numbers
                assert set(numbers) <= set(one["sources"]) <= {"sentences", "references"}
                assert all(type(number) is int for number in numbers.values())
                stated += 1
    assert stated >= 16


def test_only_what_differs_is_said():
    def description(sentences, references, name="refcoco"):
        return counts.differences(name, "unc", "testB", sentences=sentences, references=references)

    assert description(5095, 1810) == ()
    (line,) = description(5094, 1810)
    assert "5,094 sentences here but 5,095 as published" in line
    assert len(description(1, 2)) == 2
    assert description(1, 2, "birds") == ()
    google = counts.differences("refcoco", "google", "val", sentences=3, references=5000)
    assert google == ()  # how many sentences it has, no source states
