"""Samples in memory: objects, and records in the form of a JSONL line."""

import numpy as np
from PIL import Image

from vg_engine.core.evaluation.samples import Fault, Sample
from vg_engine.plugins.datasets.names import open_data

RECORD = {"image": "pics/a.png", "text": "the cup", "box": [1, 2, 3, 4]}


def test_samples_and_records_make_a_data_set() -> None:
    held = Image.new("RGB", (8, 8))
    given = [
        Sample("one", "a", "a.png", "the dog", boxes=np.array([[0.0, 0.0, 2.0, 2.0]])),
        RECORD,
        {**RECORD, "image": held},
        {"text": "no image"},
        {"image": "b.png", "text": "bad box", "box": [1, 2]},
    ]
    found = open_data(given)
    ids = ["one", "2", "3", "record 4", "record 5"]
    assert [record.id for record in found] == ids
    samples = [record for record in found if isinstance(record, Sample)]
    assert [sample.image for sample in samples] == ["a.png", "pics/a.png", held]
    assert samples[2].picture == "image 3"
    assert samples[1].boxes is not None
    assert samples[1].boxes.tolist() == [[1, 2, 3, 4]]
    errors = [record.error for record in found if isinstance(record, Fault)]
    assert "names no image" in errors[0]
    assert open_data(found) is found


def test_the_revision_tells_other_annotations_apart() -> None:
    moved = {**RECORD, "box": [1, 2, 3, 5]}
    assert open_data([RECORD]).revision == open_data([dict(RECORD)]).revision
    assert open_data([RECORD]).revision != open_data([moved]).revision
