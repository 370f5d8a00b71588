import yaml

from vg_engine.plugins.datasets import counts


def test_the_published_counts_add_up() -> None:
    sets = (("refcoco", "unc"), ("refcoco+", "unc"), ("refcocog", "umd"))
    scored = [
        [counts.published(name, by, split) for split in ("val", "test", "testA", "testB")]
        for name, by in sets
    ]
    assert [sum(one.sentences or 0 for one in each) for each in scored] == [21586, 21373, 14498]
    whole = [
        [*each, counts.published(name, by, "train")]
        for each, (name, by) in zip(scored, sets, strict=True)
    ]
    assert [sum(one.sentences or 0 for one in each) for each in whole] == [142210, 141564, 95010]
    assert [sum(one.references or 0 for one in each) for each in whole] == [50000, 49856, 49822]
    splits = [counts.published("refcocog", "google", split) for split in ("train", "val")]
    assert sum(one.sentences or 0 for one in splits) == 95010
    assert sum(one.references or 0 for one in splits) == 49822
    assert counts.published("refcocog", "google", "test") == counts.Published()


def test_every_count_has_its_source() -> None:
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


def test_only_what_differs_is_said() -> None:
    def said(sentences: int, references: int, name: str = "refcoco") -> tuple[str, ...]:
        return counts.differences(name, "unc", "testB", sentences=sentences, references=references)

    assert said(5095, 1810) == ()
    (line,) = said(5094, 1810)
    assert "5,094 sentences here but 5,095 as published" in line
    assert len(said(1, 2)) == 2
    assert said(1, 2, "birds") == ()
    google = counts.differences("refcoco", "google", "val", sentences=3, references=5000)
    assert google == ()  # how many sentences it has, no source states
