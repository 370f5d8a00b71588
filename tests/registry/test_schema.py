import datetime as dt
import tempfile
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vg_engine.core.attention.criteria import CONNECTIVITIES, Weighting
from vg_engine.core.contract.prompt import QUERY_ROWS, Prompt
from vg_engine.core.errors import InputError
from vg_engine.core.heads import Head, HeadSet
from vg_engine.registry import schema
from vg_engine.registry.schema import dump_head_set, read_head_set, read_model

HEADS = """\
name: mine
models: [org/model]
layers: 4
heads_per_layer: 8
mode: paper
heads:
  - {head: L3H7, frequency: 0.5}
  - {head: 2.1, frequency: 1}
data: RefCOCO
n: 1000
date: 2026-11-22
prompt: {form: chat, query_row: prompt_last}
controls: {random: 0.2}
"""


def write(folder: Path, text: str, name: str = "mine") -> Path:
    path = folder / f"{name}.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def test_a_head_set_is_read(tmp_path: Path) -> None:
    heads = read_head_set(write(tmp_path, HEADS.replace("2.1,", '"2.1",')))
    assert heads.heads == (Head(3, 7), Head(2, 1))
    assert heads.frequency == (0.5, 1.0)
    assert heads.model == ("org/model",)
    assert (heads.layers, heads.heads_per_layer, heads.mode) == (4, 8, "paper")
    assert dict(heads.provenance) == {
        "data": "RefCOCO",
        "n": 1000,
        "date": "2026-11-22",
        "prompt": {"form": "chat", "query_row": "prompt_last"},
        "controls": {"random": 0.2},
    }


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("layers: 4", "layer: 4", "unknown key 'layer'; did you mean layers"),
        ("layers: 4", "layers: four", "layers must be int, got str 'four'"),
        ("layers: 4", "layers: true", "layers must be int, got bool"),
        ("layers: 4", "layers: -4", "layers must not be negative"),
        ("layers: 4", "layers: 3", "L3H7 is out of range"),
        ("mode: paper", "mode: Paper!", "mode 'Paper!' is no name of a selection rule"),
        ("mode: paper", "mode: -x", "mode '-x' is no name"),
        ("mode: paper", "mode: ''", "mode '' is no name"),
        ("mode: paper", "", "mode missing; add it"),
        ("name: mine", "name: other", "name it 'mine' as the file"),
        ("L3H7", "H7", "'H7' names no head"),
        ("L3H7", "L2H1", "a head is named twice"),
        ("head: L3H7", "haed: L3H7", "unknown key 'haed'; did you mean head"),
        ("head: L3H7, ", "", "head missing; write head: L14H24"),
        (", frequency: 1}", "}", "a frequency for 1 of 2 heads"),
        ("form: chat", "form: chatty", "prompt form 'chatty'; choose bare, chat"),
        ("query_row: prompt_last", "query_row: last", "query_row 'last'; choose expression_last"),
        ("form: chat", "from: chat", "unknown key 'from'; did you mean form"),
        ("models: [org/model]", "models: [1]", "models must be a list of text"),
        ("models: [org/model]", "models: org/model", "models must be list, got str"),
        (HEADS, "- a\n- b\n", "expected keys and values, got list"),
        (HEADS, "", "expected keys and values, got NoneType"),
        ("layers: 4", "layers: 1.0e+9", "layers must be int, got float"),
        ("layers: 4", "layers: 9" + "9" * 5000, "cannot be read"),
        ("n: 1000", "n: 1000\nn: 2000", "line 11: key 'n' twice; keep one"),
        ("{random: 0.2}", "{random: 0.2, random: 0.3}", "key 'random' twice"),
        ("{random: 0.2}", "[0.2]", "controls must be dict, got list"),
        ("{random: 0.2}", "{random: {iou: .nan}}", "controls, random, iou is nan; write a finite"),
        ("{random: 0.2}", "{random: !!binary aGk=}", "controls, random holds a bytes"),
        ("{random: 0.2}", "{random: !!set {a}}", "controls, random holds a set"),
        ("{random: 0.2}", "{a: &a [1], b: *a}", "an alias"),
        ("2026-11-22", "2026-13-45", "cannot be read"),
        ("data: RefCOCO", "data: 5", "data must be str, got int 5; write it in quotes"),
        ("data: RefCOCO", "sede: 3", "unknown key 'sede'; did you mean seed"),
        ("data: RefCOCO", "1: RefCOCO", "unknown key 1; known: "),
        ("data: RefCOCO", "notes: [1]", "notes must be a list of text"),
        ("data: RefCOCO", "weighting: volume", "weighting 'volume'; choose area, mass"),
        ("data: RefCOCO", "connectivity: 6", "connectivity 6; choose 4, 8"),
        ("data: RefCOCO", "index_base: 2", "index_base 2; choose 0, 1"),
        ("data: RefCOCO", "index_base: -1", "index_base must not be negative"),
        ("data: RefCOCO", "index_base: true", "index_base must be int, got bool"),
        ("frequency: 0.5", "frequency: 1.5", "frequency of L3H7 is 1.5; it is .* between 0 and 1"),
        ("frequency: 0.5", "frequency: .inf", "frequency is inf"),
        ("frequency: 1}", "frequency: 1, score: 3}", "a score for 1 of 2 heads; all or none"),
        ("{head: L3H7, frequency: 0.5}", "L3H7", "head 1: write it as a key .*: head: L3H7"),
        ("{head: L3H7, frequency: 0.5}", "", "head 1: expected keys and values, got NoneType"),
        ("L3H7", "L4H7", "L4H7 is out of range.*index_base: 1"),
        ("query_row: prompt_last", "template: find it", "must hold {expression} exactly once"),
        (HEADS, "a: [", "cannot be read"),
        (HEADS, "[" * 100_000, "more than 20 levels deep"),
        (HEADS, "a: b\n" + "#" * 8_000_000, "more than 8000000 characters"),
        (HEADS, "!!python/object/apply:os.system ['true']", "cannot be read"),
    ],
)
def test_what_breaks_the_schema_is_named(tmp_path: Path, old: str, new: str, words: str) -> None:
    text = HEADS.replace("2.1,", '"2.1",')
    path = write(tmp_path, new if old == HEADS else text.replace(old, new, 1))
    with pytest.raises(InputError, match=words) as caught:
        read_head_set(path)
    assert "mine.yaml" in str(caught.value)
    assert "\n" not in str(caught.value)


BASED = HEADS.replace("2.1,", '"2.1",') + "index_base: 1\n"


def test_a_list_that_counts_from_1_is_shifted(tmp_path: Path) -> None:
    heads = read_head_set(write(tmp_path, BASED.replace("L3H7", "L4H8")))
    assert heads.heads == (Head(3, 7), Head(1, 0))
    assert heads.frequency == (0.5, 1.0)
    assert heads.provenance["index_base"] == 0
    assert "counted from 1 in its file" in str(heads.provenance["notes"])
    # What is written down counts from 0, and is not shifted twice.
    assert read_head_set(write(tmp_path, dump_head_set(heads))) == heads
    with pytest.raises(InputError, match="heads in memory count from 0"):
        dump_head_set(HeadSet("mine", (Head(1, 2),), "given", provenance={"index_base": 1}))


@pytest.mark.parametrize(
    ("head", "words"),
    [
        ("L0H7", "L0H7 in a list that counts from 1"),
        ("L3H0", "L3H0 in a list that counts from 1"),
        ("L5H8", "L5H8 is out of range: counted from 1, layers are 1 to 4 and heads 1 to 8"),
        ("L4H9", "L4H9 is out of range: counted from 1, layers are 1 to 4 and heads 1 to 8"),
    ],
)
def test_a_head_that_no_list_from_1_can_hold(tmp_path: Path, head: str, words: str) -> None:
    with pytest.raises(InputError, match=words):
        read_head_set(write(tmp_path, BASED.replace("L3H7", head)))


@pytest.mark.parametrize("name", ["auto", "L1H2", "14.24", "L1H1,L2H2", "a,b", "a/b", "' a'"])
def test_a_name_that_means_something_else_is_refused(tmp_path: Path, name: str) -> None:
    text = HEADS.replace("2.1,", '"2.1",').replace("name: mine", f'name: "{name}"')
    set_ = HeadSet(name.strip("'"), (Head(1, 2),), "given")
    with pytest.raises(InputError, match=r"take another name|as the file"):
        read_head_set(write(tmp_path, text, "x" if "/" in name else name.strip("'")))
    with pytest.raises(InputError, match="take another name"):
        dump_head_set(set_)


def test_the_name_of_any_rule_is_a_mode(tmp_path: Path) -> None:
    for mode in ("paper+sensitivity", "my-rule_2.0", "7", "given", "published"):
        text = HEADS.replace("2.1,", '"2.1",').replace("mode: paper", f"mode: '{mode}'")
        assert read_head_set(write(tmp_path, text)).mode == mode


def test_a_file_that_is_no_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no file .*none\.yaml; check the path"):
        read_head_set(tmp_path / "none.yaml")
    with pytest.raises(InputError, match="cannot be read"):
        read_head_set(tmp_path)


def test_a_file_that_is_no_text_is_named(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_bytes(b"\xff\xfe\x00\x9f")
    with pytest.raises(InputError, match=r"mine\.yaml cannot be read"):
        read_head_set(path)


def test_what_is_written_is_read_back(tmp_path: Path) -> None:
    plain = HeadSet("mine", (Head(1, 2),), "given")
    assert read_head_set(write(tmp_path, dump_head_set(plain))).heads == plain.heads
    numpys = HeadSet(
        "mine", (Head(1, 2),), "given", score=(np.float64(0.5),),
        provenance={"n": np.int64(3), "threshold": np.float64(0.25), "date": dt.date(2026, 11, 22)},
    )  # fmt: skip
    read = read_head_set(write(tmp_path, dump_head_set(numpys)))
    assert (read.score, dict(read.provenance)) == (
        (0.5,),
        {"n": 3, "threshold": 0.25, "date": "2026-11-22"},
    )


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"provenance": {"sede": 1}}, "unknown key 'sede'; did you mean seed"),
        ({"provenance": {"n": "many"}}, "n must be int, got str 'many'"),
        ({"provenance": {"source": Path("a")}}, "source holds a PosixPath"),
        ({"provenance": {"controls": {"a": float("nan")}}}, "controls, a is nan"),
        ({"mode": "My rule"}, "mode 'My rule' is no name"),
        ({"layers": 1, "heads_per_layer": 9}, "L1H2 is out of range"),
    ],
)
def test_what_could_not_be_read_back_is_not_written(changes: dict[str, Any], words: str) -> None:
    made: dict[str, Any] = {"name": "mine", "heads": (Head(1, 2),), "mode": "given"} | changes
    with pytest.raises(InputError, match=words):
        dump_head_set(HeadSet(**made))


NUMBERS = st.floats(allow_nan=False, allow_infinity=False)
TEXT = st.text(max_size=12)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**6), 10**6) | NUMBERS | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=6,
)
OF_TYPE: dict[type, st.SearchStrategy[Any]] = {
    str: TEXT,
    int: st.integers(0, 10**6),
    float: NUMBERS,
    dict: st.dictionaries(TEXT, VALUES, max_size=3),
    list: st.lists(TEXT, max_size=3),
}
SPECIAL: dict[str, st.SearchStrategy[Any]] = {
    "weighting": st.sampled_from(["area", "mass"]),
    "connectivity": st.sampled_from([4, 8]),
    "index_base": st.just(0),
    "prompt": st.fixed_dictionaries(
        {},
        optional={
            "form": st.sampled_from(["bare", "chat"]),
            "query_row": st.sampled_from(QUERY_ROWS),
            "system": TEXT,
            "template": TEXT.map(lambda text: text.replace("{", "") + "{expression}"),
        },
    ),
}


@st.composite
def head_sets(draw: st.DrawFn) -> dict[str, Any]:
    """Any set that can be: all keys of the schema, any columns."""
    layers, per_layer = draw(st.integers(1, 80)), draw(st.integers(1, 64))
    one = st.builds(Head, st.integers(0, layers - 1), st.integers(0, per_layer - 1))
    heads = draw(st.lists(one, min_size=1, max_size=8, unique=True))

    def column(values: st.SearchStrategy[float]) -> tuple[float, ...]:
        if draw(st.booleans()):
            return ()
        return tuple(draw(st.lists(values, min_size=len(heads), max_size=len(heads))))

    # Made into a set in the test: shapes are checked by chance there, which strategies forbid.
    return {
        "name": "mine",
        "heads": tuple(heads),
        "mode": draw(st.from_regex(r"[a-z0-9][a-z0-9_.+-]{0,9}", fullmatch=True)),
        "model": tuple(draw(st.lists(TEXT, max_size=2))),
        "layers": draw(st.sampled_from([0, layers])),
        "heads_per_layer": draw(st.sampled_from([0, per_layer])),
        "frequency": column(st.floats(0, 1)),
        "spread": column(st.floats(0, 1e300)),
        "score": column(NUMBERS),
        "provenance": draw(
            st.fixed_dictionaries(
                {},
                optional={
                    key: SPECIAL.get(key, OF_TYPE[kind]) for key, kind in schema._PROVENANCE.items()
                },
            )
        ),
    }


@settings(derandomize=True, deadline=None, max_examples=100, database=None)
@given(head_sets())
def test_every_set_survives_its_file(drawn: dict[str, Any]) -> None:
    heads = HeadSet(**drawn)
    with tempfile.TemporaryDirectory() as folder:
        read = read_head_set(write(Path(folder), dump_head_set(heads)))
    assert read == heads
    assert read.columns == heads.columns


def test_a_model_entry_is_read(tmp_path: Path) -> None:
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
    with pytest.raises(InputError, match="neither folder nor ids"):
        read_model(write(tmp_path, "name: mine\n"), tmp_path)
    with pytest.raises(InputError, match="unknown key 'alias'; did you mean aliases"):
        read_model(write(tmp_path, "name: mine\nids: [a/b]\nalias: [x]\n"), tmp_path)


def test_names_kept_apart_to_stay_light_agree_with_core() -> None:
    assert get_args(Weighting) == schema.WEIGHTINGS
    assert schema.CONNECTIVITIES == CONNECTIVITIES
    assert schema.QUERY_ROWS == QUERY_ROWS
    for form in schema.FORMS:
        Prompt(form=form)
