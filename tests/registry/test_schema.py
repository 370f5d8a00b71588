from pathlib import Path
from types import MappingProxyType

import pytest

from vg_engine.core.errors import InputError
from vg_engine.core.heads import Head, HeadSet
from vg_engine.core.types import QUERY_ROWS, Prompt
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
        ("mode: paper", "mode: papre", "mode 'papre'; choose paper"),
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
        (HEADS, "a: [", "cannot be read"),
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


def test_a_file_that_is_no_text_is_named(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_bytes(b"\xff\xfe\x00\x9f")
    with pytest.raises(InputError, match=r"mine\.yaml cannot be read"):
        read_head_set(path)


def test_what_is_written_is_read_back(tmp_path: Path) -> None:
    heads = HeadSet(
        name="mine",
        heads=(Head(1, 2), Head(0, 3)),
        mode="sensitivity",
        model=("embedded",),
        layers=4,
        heads_per_layer=8,
        frequency=(0.25, 0.125),
        provenance=MappingProxyType(
            {
                "data": "scenes",
                "seed": 3,
                "date": "2026-11-22",
                "prompt": {"form": "bare", "template": "{expression}"},
                "controls": {"random": {"pointing": 0.3}},
                "notes": ["a", "ä"],
            }
        ),
    )
    assert read_head_set(write(tmp_path, dump_head_set(heads))) == heads
    plain = HeadSet("mine", (Head(1, 2),), "given")
    assert read_head_set(write(tmp_path, dump_head_set(plain))).heads == plain.heads
    with pytest.raises(InputError, match="'sede'; did you mean seed"):
        dump_head_set(HeadSet("mine", (Head(1, 2),), "given", provenance={"sede": 1}))


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
    assert schema.QUERY_ROWS == QUERY_ROWS
    for form in schema.FORMS:
        Prompt(form=form)
