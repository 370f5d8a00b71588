import contextlib
import os
import pickle
import re
import tracemalloc

import pytest
from dataset_files import refusal
from hypothesis import given
from hypothesis import strategies as st

from vg_engine.core.errors import InputError
from vg_engine.plugins.datasets import restricted_unpickler
from vg_engine.plugins.datasets.restricted_unpickler import load, loads

PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: (
        st.lists(inner)
        | st.dictionaries(st.text() | st.integers(), inner)
        | st.tuples(inner)
        | st.tuples(inner, inner)
        | st.tuples(inner, inner, inner, inner)
    ),
    max_leaves=20,
)
SENTENCE = {"tokens": ["caf\xe9", "left"], "raw": "Caf\xe9 left!", "sent_id": 0, "sent": "café"}
REFS = [{"ids": [0, 1], "split": "testA", "sentences": [SENTENCE], "area": 1.5, "far": 2**40}]
REFS.append({"flags": (True, False, None), "ref_id": 7})
# As Python 2 wrote it: texts of bytes, keys that are fetched from the memo the second time.
PYTHON_2_TEXT = (
    b"(lp1\n(dp2\nS'raw'\np3\nS'caf\\xe9 \"x\"'\np4\nsS'sent_id'\np5\nI8\nsS'tokens'\np6\n(lp7\n"
    b"S'red'\np8\nag8\nasS'area'\np9\nF2.5\nsS'far'\np10\nL1099511627776L\nsS'on'\nI01\nsS'u'\n"
    b"V\\u20ac\np11\nsa(dp12\ng3\nS'b'\nsg5\nI9\nsa."
)
PYTHON_2_BYTES = (
    b'\x80\x02]q\x01(}q\x02(U\x03rawq\x03U\x08caf\xe9 "x"q\x04U\x07sent_idq\x05K\x08U\x06tokensq'
    b"\x06]q\x07(U\x03redq\x08h\x08eU\x04areaq\tG@\x04\x00\x00\x00\x00\x00\x00U\x03farq\n\x8a\x06"
    b"\x00\x00\x00\x00\x00\x01U\x02on\x88U\x01uX\x03\x00\x00\x00\xe2\x82\xacq\x0bu}q\x0c(h\x03T\x01"
    b"\x00\x00\x00bh\x05K\tue."
)
FIRST = {"raw": 'café "x"', "sent_id": 8, "tokens": ["red", "red"], "area": 2.5, "far": 1 << 40}
PYTHON_2_HELD = [{**FIRST, "on": True, "u": "€"}, {"raw": "b", "sent_id": 9}]


class Touches:
    """What a hostile pickle does when it is read the plain way: here it makes a folder."""

    def __reduce__(self):
        return os.mkdir, ("made",)


def refused(data):
    message = refusal(loads, data)
    assert message.isprintable()
    return message


@given(PLAIN, st.integers(0, pickle.HIGHEST_PROTOCOL))
def test_plain_data_comes_back_as_it_was(value, protocol):
    again = loads(pickle.dumps(value, protocol))
    assert again == value
    assert repr(again) == repr(value)  # 1 and True are equal


def test_texts_of_python_2_are_latin_1_and_bytes_plain_where_the_protocol_has_them():
    for data in (PYTHON_2_TEXT, PYTHON_2_BYTES):
        assert loads(data) == PYTHON_2_HELD
        assert pickle.loads(data, encoding="latin-1") == PYTHON_2_HELD
    held = [b"", b"ab", b"c" * 300]
    assert loads(pickle.dumps(held, 3)) == loads(pickle.dumps(held, 5)) == held
    assert "_codecs.encode" in refused(pickle.dumps(held[1:], 2))


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_nothing_is_run(tmp_path, monkeypatch, protocol):
    monkeypatch.chdir(tmp_path)
    data = pickle.dumps([1, Touches()], protocol)
    message = refused(data)
    assert "mkdir" in message
    assert "run a program" in message
    assert not list(tmp_path.iterdir())
    pickle.loads(data)
    assert list(tmp_path.iterdir())  # the file was hostile indeed


@pytest.mark.parametrize(
    ("data", "named"),
    [
        (b"cbuiltins\neval\n(S'1+1'\ntR.", "builtins.eval"),
        (b"c__builtin__\neval\n(S'1+1'\ntR.", "__builtin__.eval"),
        (b"\x80\x04\x8c\x08builtins\x8c\x07getattr\x93.", "builtins.getattr"),
        (b"(S'ls'\nios\nsystem\n.", "os.system"),
        (b"(cos\nsystem\nS'ls'\no.", "os.system"),
        (b"ccollections\nOrderedDict\n)R.", "collections.OrderedDict"),
        (pickle.dumps({1, 2}, 2), "set"),
        (pickle.dumps({1, 2}, 4), "instruction"),
        (pickle.dumps(1j, 2), "complex"),
        (pickle.dumps(bytearray(b"a"), 5), "instruction"),
        (b"Pname\n.", "b'P'"),
        (b"S'a'\nQ.", "b'Q'"),
        (b"\x82\x01.", "b'\\x82'"),
        (b"N)R.", "b'R'"),
        (b"N}b.", "b'b'"),
        (b"N)\x81.", "b'\\x81'"),
        (b"\x97.", "b'\\x97'"),
        (b"c\x1b[31m\nx\n.", "x1b"),
    ],
)
def test_whatever_names_or_makes_more_than_plain_data_is_refused(data, named):
    assert named in refused(data)


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_a_pickle_that_ends_early_is_said_to(protocol):
    data = pickle.dumps(REFS, protocol)
    assert loads(data) == REFS
    for length in range(len(data)):
        assert "complete pickle" in refused(data[:length])


@given(st.binary(max_size=60), st.data())
def test_broken_bytes_raise_one_kind_of_error(junk, data):
    place = data.draw(st.integers(0, len(PYTHON_2_BYTES)))
    for tried in (junk, PYTHON_2_BYTES[:place] + junk + PYTHON_2_BYTES[place:]):
        with contextlib.suppress(InputError):
            loads(tried)


def test_a_number_in_the_file_does_not_say_how_much_memory_is_taken():
    tracemalloc.start()
    try:
        for put in (b"r\xff\xff\xff\x00", b"p16777215\n"):
            assert loads(b"N" + put + b".") is None
        refused(b"\x80\x04\x8e" + (2**40).to_bytes(8, "little") + b"short.")
        assert loads(b"\x80\x04\x95" + (2**40).to_bytes(8, "little") + b"N.") is None
        assert tracemalloc.get_traced_memory()[1] < 5_000_000
    finally:
        tracemalloc.stop()


def test_depth_and_long_digits_are_no_danger():
    deep = b"]" * 200_000 + b"a" * 199_999 + b"."
    assert isinstance(loads(deep), list)
    key = b")" + b"\x85" * 200_000
    for data in (b"}" + key + b"I1\ns.", b"}(" + key + b"I1\nu.", b"(" + key + b"I1\nd."):
        assert "keys" in refused(data)
    assert "complete pickle" in refused(b"L" + b"9" * 5_000 + b"L\n.")


def test_a_file_is_named(tmp_path, monkeypatch):
    file = tmp_path / "refs(unc).p"
    assert "refs(unc).p cannot be read" in refusal(load, file)
    file.write_bytes(b"cos\nsystem\n.")
    assert re.search(r"refs\(unc\).p is refused: .*'os.system'", refusal(load, file))
    file.write_bytes(PYTHON_2_TEXT)
    assert load(file) == PYTHON_2_HELD
    monkeypatch.setattr(restricted_unpickler, "MAX_BYTES", len(PYTHON_2_TEXT) - 1)
    assert f"refs(unc).p has {len(PYTHON_2_TEXT)} bytes" in refusal(load, file)
    assert "cannot be read" in refusal(load, tmp_path)
