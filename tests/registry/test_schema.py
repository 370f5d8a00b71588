import datetime as dt
import re
import tempfile
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
from dataset_files import refusal
from hypothesis import given, settings
from hypothesis import strategies as st

from vg_engine.core.attention.criteria import CONNECTIVITIES, Weighting
from vg_engine.core.contract.prompt import Prompt
from vg_engine.core.heads import Head, HeadSet
from vg_engine.registry import schema
from vg_engine.registry.schema import dump_head_set, read_head_set, read_model

HEADS = """\
name: mine
models: [org/model]
layers: 4
heads_per_layer: 8
rule: paper
heads:
  - {head: L3H7, frequency: 0.5}
  - {head: '2.1', frequency: 1}
data: RefCOCO
n: 1000
date: 2026-11-22
region:
prompt: {form: chat, query_row: prompt_last}
controls: {random: 0.2, 50: 2026-11-22}
"""


def write(folder, text, name="mine"):
    path = folder / f"{name}.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def test_a_head_set_is_read(tmp_path):
    # Keys and dates are text, and a key without a value is not stated.
    stated = {"data": "RefCOCO", "n": 1000, "date": "2026-11-22"}
    stated["prompt"] = {"form": "chat", "query_row": "prompt_last"}
    stated["controls"] = {"random": 0.2, "50": "2026-11-22"}
    columns = {"frequency": (0.5, 1.0), "provenance": stated}
    expected = HeadSet("mine", (Head(3, 7), Head(2, 1)), "paper", ("org/model",), 4, 8, **columns)
    assert read_head_set(write(tmp_path, HEADS)) == expected


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("layers: 4", "layer:", "unknown key 'layer'; did you mean layers"),
        ("layers: 4", "dict: 4", "unknown key 'dict'"),
        ("layers: 4", "<<: {layers: 4}", "unknown key '<<'"),
        ("layers: 4", "layers: four", "layers: must be a whole number, got str 'four'"),
        ("layers: 4", "layers: true", "layers: must be a whole number, got bool True"),
        ("layers: 4", "layers: -4", "layers: must be greater than or equal to 0, got int -4"),
        ("rule: paper", "rule: Paper!", "rule: 'Paper!' is no name of a selection rule"),
        ("rule: paper", "rule: ''", "rule: '' is no name"),
        ("rule: paper", "rule:", "rule: missing; add it"),
        ("L3H7", "H7", "'H7' names no head"),
        ("L3H7", "L2H1", "a head is named twice"),
        ("'2.1'", "2.1", "heads, 2, head: must be text, got float 2.1; write it in quotes"),
        ("head: L3H7", "haed: L3H7", "heads, 1: unknown key 'haed'; did you mean head"),
        ("head: L3H7, ", "", "heads, 1, head: missing; add it"),
        (", frequency: 1}", "}", "a frequency for 1 of 2 heads"),
        ("form: chat", "form: chatty", "prompt, form: must be 'bare' or 'chat', got str 'chatty'"),
        ("query_row: prompt_last", "query_row: last", "prompt: query row 'last': choose expr"),
        ("query_row: prompt_last", "template: find it", "must hold {expression} exactly once"),
        ("form: chat, query_row: prompt_last", "query_row: answer_first", "needs the chat form"),
        ("form: chat", "from: chat", "prompt: unknown key 'from'; did you mean form"),
        ("models: [org/model]", "models: [1]", "models, 1: must be text, got int 1; write it in q"),
        ("models: [org/model]", "models: org/model", "models: must be a list, got str 'org/mod"),
        (HEADS, "- a\n- b\n", r"mine.yaml: must be `key: value` lines, got list \['a', 'b'\]"),
        (HEADS, "", "name: missing; add it"),
        ("layers: 4", "layers: 9" + "9" * 5000, "cannot be read"),
        ("n: 1000", "n: 1000\nn: 2000", "mine.yaml, line 11: key 'n' twice; keep one"),
        ("{random: 0.2", "{random: 0.2, random: 0.3", "line 14: key 'random' twice"),
        ("n: 1000", "? [n]\n: 1000", "line 10: .*expected a scalar node, but found sequence"),
        ("n: 1000", "---", "line 10: .*but found another document"),
        ("{random: 0.2,", "{random: {iou: .nan},", "controls, random, iou: must be a finite num"),
        ("{random: 0.2,", "{random: !!set {a},", "controls, random: must be text, .* got set"),
        ("{random: 0.2,", "{a: &a [1], b: *a,", "line 14: an alias"),
        ("2026-11-22\nr", "!!timestamp 2026-11-22\nr", "date: must be text, got date"),
        ("data: RefCOCO", "1: RefCOCO", "unknown key '1'; known: "),
        ("data: RefCOCO", "connectivity: 6", "connectivity: must be 4 or 8, got int 6"),
        ("data: RefCOCO", "index_base: 2", "index_base: must be less than or equal to 1, got"),
        ("data: RefCOCO", "index_base: true", "index_base: must be a whole number, got bool"),
        ("frequency: 0.5", "frequency: 1.5", "frequency of L3H7 is 1.5; it is .* between 0 and 1"),
        ("frequency: 0.5", "frequency: .inf", "heads, 1, frequency: must be a finite number"),
        ("frequency: 1}", "frequency: 1, score: 3}", "a score for 1 of 2 heads; all or none"),
        ("{head: L3H7, frequency: 0.5}", "L3H7", "heads, 1: must be `key: value` lines, got str"),
        ("{head: L3H7, frequency: 0.5}", "", "heads, 1: must be `key: value` lines, got nothing"),
        ("L3H7", "L4H7", "L4H7 is out of range.*index_base: 1"),
        (HEADS, "a: [", "line 2: while parsing a flow node, did not find expected node content"),
        (HEADS, "[" * 100_000, "line 1: more than 20 levels deep"),
        (HEADS, "a: b\n" + "#" * 8_000_000, "more than 8000000 characters"),
        (HEADS, "!!python/object/apply:os.system ['true']", "line 1: could not determine a const"),
        (HEADS, "\x00", "cannot be read"),
    ],
)
def test_what_breaks_the_schema_is_named(tmp_path, old, new, words):
    assert HEADS.count(old) >= 1
    message = refusal(read_head_set, write(tmp_path, HEADS.replace(old, new, 1)))
    assert re.search(words, message)
    assert "mine.yaml" in message


def test_a_list_that_counts_from_1_is_shifted(tmp_path):
    based = HEADS + "index_base: 1\n"
    heads = read_head_set(write(tmp_path, based.replace("L3H7", "L4H8")))
    assert heads.heads == (Head(3, 7), Head(1, 0))
    assert heads.provenance["index_base"] == 0
    assert "counted from 1 in its file" in str(heads.provenance["notes"])
    # What is written down counts from 0, and is not shifted twice.
    assert read_head_set(write(tmp_path, dump_head_set(heads))) == heads
    limits = "is out of range: counted from 1, layers are 1 to 4 and heads 1 to 8"
    for head, words in (
        ("L0H7", "in a list that counts from 1"),
        ("L3H0", "in a list that counts from 1"),
        ("L5H8", limits),
        ("L4H9", limits),
    ):
        path = write(tmp_path, based.replace("L3H7", head))
        assert f"{head} {words}" in refusal(read_head_set, path)


def test_a_file_that_cannot_be_read_or_whose_name_means_something_else_is_refused(tmp_path):
    for name in ("auto", "L1H2", "14.24", "L1H1,L2H2", "a,b", "a/b", " a"):
        text = HEADS.replace("name: mine", f'name: "{name}"')
        path = write(tmp_path, text, "x" if "/" in name else name)
        assert "take another name" in refusal(read_head_set, path)
        heads = HeadSet(name, (Head(1, 2),), "given")
        assert "take another name" in refusal(dump_head_set, heads)
    message = refusal(read_head_set, tmp_path / "none.yaml")
    assert re.search(r"no file .*none\.yaml; check the path", message)
    assert "cannot be read" in refusal(read_head_set, tmp_path)
    file = tmp_path / "mine.yaml"
    file.write_bytes(b"\xff\xfe\x00\x9f")
    assert "mine.yaml cannot be read" in refusal(read_head_set, file)


def test_values_are_written_plain(tmp_path):
    numbers = {"n": np.int64(3), "threshold": np.float64(0.25), "cut": np.float32(0.5)}
    more = {"draws": None, "date": dt.date(2026, 11, 22), "controls": {"a": (1, None), 5: [True]}}
    given = {**numbers, **more, "region": "\x85\u2028"}
    heads = HeadSet("mine", (Head(1, 2),), "given", score=(np.float64(0.5),), provenance=given)
    read = read_head_set(write(tmp_path, dump_head_set(heads)))
    plain = {"n": 3, "threshold": 0.25, "cut": 0.5, "date": "2026-11-22", "region": "\x85\u2028"}
    plain["controls"] = {"a": [1, None], "5": [True]}
    assert (read.score, dict(read.provenance)) == ((0.5,), plain)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"provenance": {"sede": 1}}, "unknown key 'sede'; did you mean seed"),
        ({"provenance": {"layers": 1}}, "unknown key 'layers'"),
        ({"provenance": {"n": "many"}}, "n: must be a whole number, got str 'many'"),
        ({"provenance": {"source": object()}}, "text, numbers, lists and mappings, got object"),
        ({"provenance": {"controls": {"a": float("nan")}}}, "controls, a: must be a finite number"),
        ({"provenance": {"index_base": 1}}, "heads in memory count from 0"),
        ({"rule": "My rule"}, "rule: 'My rule' is no name"),
        ({"layers": 1, "heads_per_layer": 9}, "L1H2 is out of range"),
    ],
)
def test_what_could_not_be_read_back_is_not_written(changes, words):
    made = {"name": "mine", "heads": (Head(1, 2),), "rule": "given"} | changes
    assert words in refusal(dump_head_set, HeadSet(**made))


NUMBERS = st.floats(allow_nan=False, allow_infinity=False)
TEXT = st.text(max_size=12)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**6), 10**6) | NUMBERS | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=6,
)
PROMPT = {
    "form": st.sampled_from(["bare", "chat"]),
    "query_row": st.sampled_from(["expression_all", "prompt_last", "span:red"]),
    "system": TEXT,
    "template": TEXT.map(lambda text: text.replace("{", "") + "{expression}"),
}
OF_TYPE = {
    str: TEXT,
    int: st.integers(0, 10**6),
    float: NUMBERS,
    dict: st.dictionaries(TEXT, VALUES, max_size=3),
    list: st.lists(TEXT, max_size=3),
    schema.PromptFields: st.fixed_dictionaries({}, optional=PROMPT),
}


def values_of(annotation):
    """Any value of an optional field's type."""
    kind = get_args(annotation)[0]
    plain = getattr(kind, "__origin__", kind)
    return OF_TYPE[plain] if plain in OF_TYPE else st.from_type(kind)


FIELDS = {key: values_of(one.annotation) for key, one in schema.Provenance.model_fields.items()}
PROVENANCE = st.fixed_dictionaries({}, optional=FIELDS | {"index_base": st.just(0)})
ONE = st.builds(Head, st.integers(0, 79), st.integers(0, 63))


@settings(derandomize=True, deadline=None, max_examples=100, database=None)
@given(st.data(), st.lists(ONE, min_size=1, max_size=8, unique=True))
def test_every_set_survives_its_file(data, heads):
    """Any set that can be: all keys of the schema, any columns."""

    def column(values):
        return data.draw(st.just(()) | st.tuples(*[values] * len(heads)))

    drawn = HeadSet(
        "mine",
        tuple(heads),
        rule=data.draw(st.from_regex(r"[a-z0-9][a-z0-9_.+-]{0,9}", fullmatch=True)),
        model=tuple(data.draw(st.lists(TEXT, max_size=2))),
        layers=data.draw(st.sampled_from([0, 80])),
        heads_per_layer=data.draw(st.sampled_from([0, 64])),
        frequency=column(st.floats(0, 1)),
        spread=column(st.floats(0, 1e300)),
        score=column(NUMBERS),
        provenance=data.draw(PROVENANCE),
    )
    with tempfile.TemporaryDirectory() as folder:
        read = read_head_set(write(Path(folder), dump_head_set(drawn)))
    assert (read, read.columns) == (drawn, drawn.columns)


def test_a_model_entry_is_read(tmp_path):
    text = (
        "name: mine\naliases: [My-Model]\nids: [org/mine]\nfolder: files\nadapter: wide\n"
        "prompt: {template: 'find {expression}'}\nheads: set\noptions: {geometry: pad}\n"
        "notes: [one]\nlayers: 4\nheads_per_layer: 8\n"
    )
    entry = read_model(write(tmp_path, text), tmp_path)
    assert entry.folder == tmp_path / "files"
    assert all(entry.answers_to(name) for name in ("mine", "MINE", "my-model", "Org/Mine"))
    assert not entry.answers_to("min")
    assert (entry.adapter, entry.heads, entry.notes) == ("wide", "set", ("one",))
    assert entry.options == {"geometry": "pad"}
    assert entry.prompt.stated() == {"template": "find {expression}"}
    for text, words in (
        ("", "mine.yaml: neither folder nor ids"),
        ("ids: [a/b]\nalias: [x]", "unknown key 'alias'; did you mean aliases"),
        ("folder: 5", "folder: must be text, got int 5"),
    ):
        file = write(tmp_path, f"name: mine\n{text}\n")
        assert words in refusal(read_model, file, tmp_path)


def test_the_schema_agrees_with_core():
    assert get_args(schema.Weighting) == get_args(Weighting)
    assert get_args(schema.Connectivity) == CONNECTIVITIES
    assert set(schema.PromptFields.model_fields) == set(Prompt.__dataclass_fields__)
