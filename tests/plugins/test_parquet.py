"""Sets of the hub as parquet files: their splits, what is broken, and how little is held."""

from __future__ import annotations

import gc
import io
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import FunctionType
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from vg_engine.core.errors import InputError, PictureError
from vg_engine.core.evaluation.samples import DataSet, Fault, Sample
from vg_engine.plugins.datasets import parquet_files
from vg_engine.plugins.datasets.parquet import parquet

WIDTH, HEIGHT = 40, 30

PICTURE = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
LMMS = pa.schema(
    [
        ("question_id", pa.string()),
        ("image", PICTURE),
        ("question", pa.string()),
        ("answer", pa.list_(pa.string())),
        ("segmentation", pa.list_(pa.float32())),
        ("bbox", pa.list_(pa.float32())),
        ("iscrowd", pa.int8()),
        ("file_name", pa.string()),
    ]
)


def picture(shade: int = 0) -> dict[str, Any]:
    """A picture as the hub stores it; its shade tells which."""
    buffer = io.BytesIO()
    Image.new("RGB", (WIDTH, HEIGHT), (shade, shade, shade)).save(buffer, "PNG")
    return {"bytes": buffer.getvalue(), "path": None}


def shade(sample: Sample) -> int:
    data = sample.open()
    assert isinstance(data, bytes)
    return int(np.asarray(Image.open(io.BytesIO(data)))[0, 0, 0])


def square(left: float, top: float, side: float) -> list[float]:
    return [left, top, left + side, top, left + side, top + side, left, top + side]


def lmms(number: int = 0, **changes: Any) -> dict[str, Any]:
    return {
        "question_id": "1",
        "image": picture(number % 256),
        "question": "Please say what the box holds.",
        "answer": ["the left one", "a cup"],
        "segmentation": square(3, 4, 5),
        "bbox": [3.0, 4.0, 5.0, 5.0],
        "iscrowd": 0,
        "file_name": f"COCO_train2014_{number:012d}_7.jpg",
        **changes,
    }


def write(file: Path, schema: pa.Schema, *rows: dict[str, Any], group: int = 100) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.Table.from_pylist(list(rows), schema), file, row_group_size=group)
    return file


def good(data: DataSet) -> list[Sample]:
    found = list(data)
    faults = [one for one in found if isinstance(one, Fault)]
    assert not faults, faults
    return [one for one in found if isinstance(one, Sample)]


def boxes(sample: Sample) -> list[Any]:
    assert sample.boxes is not None
    return sample.boxes.tolist()


@pytest.mark.parametrize(("rows", "said"), [(8811, True), (7573, True), (8810, False)])
def test_two_validation_sets_in_one_are_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rows: int, said: bool
) -> None:
    file = write(tmp_path / "val-00000-of-00001.parquet", LMMS, lmms())
    head = parquet_files.head(file)
    many = parquet_files.Head(head.columns, rows, head.footer)
    monkeypatch.setattr(parquet_files, "head", lambda _: many)
    statements = parquet(file).statements
    assert any("is not the published val" in one for one in statements) is said


def test_splits_of_a_repository(tmp_path: Path) -> None:
    data = tmp_path / "data"
    for number in range(2):
        write(data / f"val-0000{number}-of-00002.parquet", LMMS, lmms(number), lmms(number + 10))
    write(data / "testA-00000-of-00001-0123456789abcdef.parquet", LMMS, lmms(30))
    write(tmp_path / ".cache" / "val-00000-of-00002.parquet", LMMS, lmms(99))
    found = good(parquet(tmp_path, split="val"))
    assert [one.picture for one in found[::2]] == ["0", "10", "1", "11"]
    assert [one.id for one in found[::2]] == ["0-0", "1-0", "2-0", "3-0"]
    assert [shade(one) for one in found[::2]] == [0, 10, 1, 11]
    assert len(good(parquet(data, split="testA"))) == 2
    for split in ("", "test", "vali"):
        with pytest.raises(InputError, match=r"one of testA, val$"):
            parquet(tmp_path, split=split)
    with pytest.raises(InputError, match="is of split 'val'"):
        parquet(data / "val-00000-of-00002.parquet", split="testA")


def test_the_only_split_needs_no_name(tmp_path: Path) -> None:
    write(tmp_path / "default" / "test" / "0000.parquet", LMMS, lmms(1))
    write(tmp_path / "default" / "test" / "0001.parquet", LMMS, lmms(2))
    assert len(good(parquet(tmp_path))) == len(good(parquet(tmp_path, split="test"))) == 4


def test_a_split_of_two_folders_is_not_mixed(tmp_path: Path) -> None:
    write(tmp_path / "a" / "val.parquet", LMMS, lmms(1))
    write(tmp_path / "b" / "val.parquet", LMMS, lmms(1))
    with pytest.raises(InputError, match="name one of them"):
        parquet(tmp_path, split="val")


def test_missing_files_of_a_split_are_told(tmp_path: Path) -> None:
    write(tmp_path / "val-00001-of-00004.parquet", LMMS, lmms(1))
    assert "1 of the 4 files of val are here" in parquet(tmp_path).statements[0]


def test_broken_files_are_named(tmp_path: Path) -> None:
    whole = write(tmp_path / "whole.parquet", LMMS, lmms()).read_bytes()
    for name, data, words in (
        ("cut", whole[:-100], "is truncated or not a parquet file"),
        ("begun", whole[:50], "is truncated or not a parquet file"),
        ("empty", b"", "is truncated or not a parquet file"),
        ("page", b"<html>not found</html>", "is truncated or not a parquet file"),
        ("pointer", b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "git lfs pull"),
    ):
        file = tmp_path / f"{name}.parquet"
        file.write_bytes(data)
        with pytest.raises(InputError, match=words) as raised:
            parquet(file)
        assert file.name in str(raised.value)
        assert "\n" not in str(raised.value)


def test_damage_inside_a_file_is_a_fault_of_its_rows(tmp_path: Path) -> None:
    rows = [lmms(number) for number in range(6)]
    file = write(tmp_path / "val.parquet", LMMS, *rows, group=2)
    group = pq.ParquetFile(file).metadata.row_group(1)
    columns = {group.column(k).path_in_schema: group.column(k) for k in range(group.num_columns)}
    start = columns["answer.list.element"].dictionary_page_offset
    data = bytearray(file.read_bytes())
    data[start : start + 60] = b"\xff" * 60
    file.write_bytes(data)
    found = list(parquet(file))
    faults = [one for one in found if isinstance(one, Fault)]
    assert [fault.id for fault in faults] == ["rows 2 to 3"]
    assert "val.parquet is damaged there" in faults[0].error
    samples = [one for one in found if isinstance(one, Sample)]
    assert [one.picture for one in samples[::2]] == ["0", "1", "4", "5"]
    assert [one.id for one in samples[::2]] == ["0-0", "1-0", "4-0", "5-0"]


def test_a_row_without_its_picture(tmp_path: Path) -> None:
    file = write(tmp_path / "val.parquet", LMMS, lmms(image=None), lmms(1))
    first, _, third, _ = good(parquet(file))
    with pytest.raises(PictureError, match="holds no picture"):
        first.open()
    assert shade(third) == 1


def test_pictures_are_read_in_any_order(tmp_path: Path) -> None:
    rows = [lmms(number) for number in range(100)]
    file = write(tmp_path / "val.parquet", LMMS, *rows, group=40)
    found = good(parquet(file))[::2]
    rng = np.random.default_rng(0)
    for number in [*range(100), *reversed(range(100)), *rng.permutation(100).tolist()]:
        assert shade(found[number]) == number


def test_pictures_are_read_by_several_threads(tmp_path: Path) -> None:
    rows = [lmms(number) for number in range(60)]
    found = good(parquet(write(tmp_path / "val.parquet", LMMS, *rows, group=25)))[::2]
    order = np.random.default_rng(1).integers(0, 60, size=400).tolist()
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(lambda number: shade(found[number]), order)) == order


def held(objects: object) -> int:
    """Bytes of all byte strings and arrays that can be reached, modules and classes apart."""
    seen: set[int] = set()
    found, rest = 0, [objects]
    while rest:
        one = rest.pop()
        if id(one) in seen or isinstance(one, type(sys) | type):
            continue
        seen.add(id(one))
        if isinstance(one, bytes | bytearray):
            found += len(one)
        elif isinstance(one, np.ndarray):
            found += one.nbytes
        else:
            function = isinstance(one, FunctionType)  # it refers to its whole module
            rest += one.__closure__ or () if function else gc.get_referents(one)
    return found


def test_kept_samples_hold_no_pictures(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    rows = []
    for number in range(300):
        noise = rng.integers(0, 256, size=50_000, dtype=np.uint8).tobytes()
        rows.append(lmms(number, image={"bytes": noise, "path": None}))
    file = write(tmp_path / "val.parquet", LMMS, *rows)
    expected = [row["image"]["bytes"] for row in rows]
    kept = good(parquet(file))
    assert len(kept) == 600
    for number, one in enumerate(kept):
        assert one.open() == expected[number // 2]
    assert held(expected) == 300 * 50_000, "the measure itself finds what is held"
    assert 16 * 50_000 <= held(kept) <= 2 * 16 * 50_000 + 600 * 100


def test_the_revision_follows_the_files(tmp_path: Path) -> None:
    file = write(tmp_path / "val.parquet", LMMS, lmms(1))
    first = parquet(file)
    assert parquet(file).revision == first.revision
    assert first.name == f"parquet:{file}"
    write(file, LMMS, lmms(1, answer=["another"]))
    assert parquet(file).revision != first.revision


def test_a_set_is_read_lazily_and_again(tmp_path: Path) -> None:
    file = write(tmp_path / "val.parquet", LMMS, *[lmms(k) for k in range(200)], group=50)
    data = parquet(file)
    reading = iter(data)
    first = next(reading)
    assert [one.id for one in data][:3] == ["0-0", "0-1", "1-0"]
    assert (first.id, next(reading).id) == ("0-0", "0-1")


def test_a_file_that_went_away(tmp_path: Path) -> None:
    file = write(tmp_path / "val.parquet", LMMS, lmms())
    data = parquet(file)
    kept = good(data)
    file.unlink()
    with pytest.raises(InputError, match="can no longer be read"):
        list(data)
    with pytest.raises(InputError, match="can no longer be read"):
        kept[0].open()


def test_without_pyarrow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = write(tmp_path / "val.parquet", LMMS, lmms())
    monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)
    with pytest.raises(InputError, match=r"pip install 'vg-engine\[data\]'"):
        parquet(file)


def test_what_is_refused(tmp_path: Path) -> None:
    for path, words in (
        (None, "write parquet:/data/RefCOCO"),
        (tmp_path / "x.parquet", "no such folder"),
        (tmp_path, "no .parquet file lies in"),
    ):
        with pytest.raises(InputError, match=words):
            parquet(path)
