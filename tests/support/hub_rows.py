"""Rows of the hub's parquet files, shared by their tests."""

import io

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from dataset_files import HEIGHT, WIDTH, rectangle
from PIL import Image

PICTURE = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
TEXT, TEXTS, WHOLE = pa.string(), pa.list_(pa.string()), pa.int64()


def columns(kind, names):
    return [(name, kind) for name in names.split()]


LMMS = pa.schema(
    [
        *columns(TEXT, "question_id question file_name"),
        *columns(pa.list_(pa.float32()), "segmentation bbox"),
        *[("image", PICTURE), ("answer", TEXTS), ("iscrowd", pa.int8())],
    ]
)


def picture(shade=0):
    """A picture as the hub stores it; its shade tells which."""
    buffer = io.BytesIO()
    Image.new("RGB", (WIDTH, HEIGHT), (shade, shade, shade)).save(buffer, "PNG")
    return {"bytes": buffer.getvalue(), "path": None}


def shade(sample):
    return int(np.asarray(Image.open(io.BytesIO(sample.open())))[0, 0, 0])


def lmms(number=0, **changes):
    return {
        "question_id": "1",
        "image": picture(number % 256),
        "question": "Please say what the box holds.",
        "answer": ["the left one", "a cup"],
        "segmentation": rectangle(3, 4, 8, 9),
        "bbox": [3.0, 4.0, 5.0, 5.0],
        "iscrowd": 0,
        "file_name": f"COCO_train2014_{number:012d}_7.jpg",
        **changes,
    }


def write(file, schema, *rows, group=100):
    file.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.Table.from_pylist(list(rows), schema), file, row_group_size=group)
    return file
