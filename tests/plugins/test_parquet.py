import gc
import sys
from concurrent.futures import ThreadPoolExecutor
from types import FunctionType

import numpy as np
import pyarrow.parquet as pq
import pytest
from dataset_files import good, refusal, sorted_out
from hub_rows import LMMS, lmms, shade, write

from vg_engine.core.errors import PictureError
from vg_engine.plugins.datasets import parquet_files
from vg_engine.plugins.datasets.parquet import parquet


@pytest.fixture
def save(tmp_path):
    """Write a file of one split of these rows."""
    return lambda *rows, group=100: write(tmp_path / "val.parquet", LMMS, *rows, group=group)


@pytest.mark.parametrize(("rows", "description"), [(8811, True), (7573, True), (8810, False)])
def test_two_validation_sets_in_one_are_told(tmp_path, monkeypatch, rows, description):
    file = write(tmp_path / "val-00000-of-00001.parquet", LMMS, lmms())
    head = parquet_files.head(file)
    many = parquet_files.Head(head.columns, rows, head.footer)
    monkeypatch.setattr(parquet_files, "head", lambda _: many)
    statements = parquet(file).statements
    assert any("is not the published val" in one for one in statements) is description


def test_splits_of_a_repository(tmp_path):
    data = tmp_path / "data"
    for number in range(2):
        write(data / f"val-0000{number}-of-00002.parquet", LMMS, lmms(number), lmms(number + 10))
    write(data / "testA-00000-of-00001-0123456789abcdef.parquet", LMMS, lmms(30))
    write(tmp_path / ".cache" / "val-00000-of-00002.parquet", LMMS, lmms(99))
    found = good(parquet(tmp_path, split="val"))[::2]
    assert [one.picture for one in found] == ["0", "10", "1", "11"]
    assert [one.id for one in found] == ["0-0", "1-0", "2-0", "3-0"]
    assert [shade(one) for one in found] == [0, 10, 1, 11]
    assert len(good(parquet(data, split="testA"))) == 2
    for split in ("", "test", "vali"):
        assert refusal(parquet, tmp_path, split=split).endswith("one of testA, val")
    message = refusal(parquet, data / "val-00000-of-00002.parquet", split="testA")
    assert "is of split 'val'" in message


@pytest.mark.parametrize("other", ["val-00000-of-00003", "val-00001-of-00002-0abc", "val"])
def test_two_versions_of_a_split_are_not_read_together(tmp_path, other):
    for name in ("val-00000-of-00002", "val-00001-of-00002", other):
        write(tmp_path / f"{name}.parquet", LMMS, lmms(1))
    message = refusal(parquet, tmp_path, split="val")
    assert "in two versions" in message
    assert f"{other}.parquet" in message


def test_the_files_of_one_split_in_one_folder_need_no_name(tmp_path):
    for number in range(2):
        write(tmp_path / "default" / "test" / f"000{number}.parquet", LMMS, lmms(number))
    assert len(good(parquet(tmp_path))) == len(good(parquet(tmp_path, split="test"))) == 4
    for folder in "ab":
        write(tmp_path / folder / "val-00001-of-00004.parquet", LMMS, lmms(1))
    assert "name one of them" in refusal(parquet, tmp_path, split="val")
    assert "1 of the 4 files of val are here" in parquet(tmp_path / "a").statements[0]


def test_broken_files_are_named(save):
    file = save(lmms())
    whole = file.read_bytes()
    for data in (whole[:-100], whole[:50], b"", b"<html>not found</html>"):
        file.write_bytes(data)
        assert "val.parquet is truncated or not a parquet file" in refusal(parquet, file)
    file.write_bytes(b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n")
    message = refusal(parquet, file)
    assert "val.parquet" in message
    assert "git lfs pull" in message


def test_damage_inside_a_file_is_a_fault_of_its_rows(save):
    file = save(*map(lmms, range(6)), group=2)
    group = pq.ParquetFile(file).metadata.row_group(1)
    columns = {group.column(k).path_in_schema: group.column(k) for k in range(group.num_columns)}
    start = columns["answer.list.element"].dictionary_page_offset
    data = bytearray(file.read_bytes())
    data[start : start + 60] = b"\xff" * 60
    file.write_bytes(data)
    samples, faults = sorted_out(parquet(file))
    assert list(faults) == ["rows 2 to 3"]
    assert "val.parquet is damaged there" in faults["rows 2 to 3"]
    found = list(samples.values())[::2]
    assert [one.picture for one in found] == ["0", "1", "4", "5"]
    assert [one.id for one in found] == ["0-0", "1-0", "4-0", "5-0"]


def test_pictures_are_read_in_any_order_and_by_several_threads(save):
    found = good(parquet(save(*map(lmms, range(100)), group=40)))[::2]
    rng = np.random.default_rng(0)
    order = [*range(100), *reversed(range(100)), *rng.permutation(100).tolist()]
    assert [shade(found[number]) for number in order] == order
    order += rng.integers(0, 100, size=400).tolist()
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(lambda number: shade(found[number]), order)) == order


def held(objects):
    """Bytes of all byte strings and arrays that can be reached, modules and classes apart."""
    seen, found, rest = set(), 0, [objects]
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


def test_kept_samples_hold_no_pictures(save):
    rng = np.random.default_rng(0)
    noise = [rng.integers(0, 256, size=50_000, dtype=np.uint8).tobytes() for _ in range(300)]
    rows = [lmms(k, image={"bytes": each, "path": None}) for k, each in enumerate(noise)]
    kept = good(parquet(save(*rows)))
    assert len(kept) == 600
    for number, one in enumerate(kept):
        assert one.open() == noise[number // 2]
    assert held(noise) == 300 * 50_000, "the measure itself finds what is held"
    assert 16 * 50_000 <= held(kept) <= 2 * 16 * 50_000 + 600 * 100


def test_a_set_is_read_lazily_and_again_and_known_by_what_it_holds(save):
    rows = [lmms(number) for number in range(200)]
    file = save(*rows, group=50)
    data = parquet(file)
    reading = iter(data)
    first = next(reading)
    assert [one.id for one in data][:3] == ["0-0", "0-1", "1-0"]
    assert (first.id, next(reading).id) == ("0-0", "0-1")
    assert data.name == f"parquet:{file}"
    assert parquet(file).revision == data.revision
    rows[0]["answer"] = ["another", "a cup"]
    assert parquet(save(*rows, group=50)).revision != data.revision


def test_a_row_without_its_picture(save):
    first, _, third, _ = good(parquet(save(lmms(image=None), lmms(1))))
    with pytest.raises(PictureError, match="holds no picture"):
        first.open()
    assert shade(third) == 1


def test_a_file_that_went_away(save):
    file = save(lmms())
    data = parquet(file)
    kept = good(data)
    file.unlink()
    assert "can no longer be read" in refusal(list, data)
    assert "can no longer be read" in refusal(kept[0].open)


def test_what_is_refused(tmp_path, save, monkeypatch):
    assert "write parquet:/data/RefCOCO" in refusal(parquet, None)
    assert "no such folder" in refusal(parquet, tmp_path / "x.parquet")
    assert "no .parquet file lies in" in refusal(parquet, tmp_path)
    monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)
    assert "pip install 'vg-engine[data]'" in refusal(parquet, save(lmms()))
