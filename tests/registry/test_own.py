import json
import os
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vg_engine.core.errors import InputError, OutputError
from vg_engine.registry import catalog, own

NAMES = st.text(min_size=1, max_size=20)


@settings(derandomize=True, deadline=None, max_examples=60, database=None)
@given(st.dictionaries(NAMES, NAMES, max_size=4))
def test_what_was_chosen_is_read_back(tmp_path_factory, chosen):
    folder = tmp_path_factory.mktemp("home")
    own.write_defaults(folder, chosen)
    assert own.read_defaults(folder) == chosen
    assert (folder / own.DEFAULTS).exists() == bool(chosen)


def test_nothing_chosen_is_no_file(tmp_path):
    assert own.read_defaults(tmp_path / "none") == {}
    own.write_defaults(tmp_path, {})
    assert list(tmp_path.iterdir()) == []
    (tmp_path / own.DEFAULTS).symlink_to(tmp_path / "gone")
    with pytest.raises(InputError, match="no file"):
        own.read_defaults(tmp_path)


def test_files_are_written_whole_or_not_at_all(tmp_path, monkeypatch):
    path = own.write_file(tmp_path / "a" / "b" / "x.yaml", b"old")

    def full(self, data):
        os.close(os.open(self, os.O_CREAT))
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(OutputError, match=r"x\.yaml cannot be written \(No space left on device\)"):
        own.write_file(path, b"new")
    assert path.read_bytes() == b"old"
    assert list(path.parent.iterdir()) == [path]
    (tmp_path / own.DEFAULTS).mkdir()
    with pytest.raises(OutputError, match=r"defaults\.yaml cannot be written"):
        own.write_defaults(tmp_path, {})


def test_only_a_shape_that_is_plain_is_taken():
    plain = {"num_hidden_layers": 4, "num_attention_heads": 2}
    wrapped = {"text_config": plain}, {"llm_config": plain}, plain | {"text_config": 0}
    for config in (plain, *wrapped):
        assert own.shape_of(config) == (4, 2), config
    for more in (
        {"text_config": {}},
        {"text_config": {"num_hidden_layers": 4}},
        {"num_hidden_layers": "4"},
        {"num_attention_heads": [2, 2]},
        {"num_attention_heads": 0},
        {"is_encoder_decoder": True},
        {"decoder": {"a": 1}},
    ):
        assert own.shape_of(plain | more) == (0, 0), more
    assert own.shape_of({}) == (0, 0)
    embedded = json.loads((catalog.OURS / "embedded" / "config.json").read_text())
    heads = catalog.head_set("embedded")
    assert own.shape_of(embedded) == (heads.layers, heads.heads_per_layer)
