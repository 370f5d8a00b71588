"""sentencepiece models, encoded here field by field, and read without sentencepiece."""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

import pytest
from transformers import AutoTokenizer

from vg_engine.core.errors import InputError
from vg_engine.model_adapters.conversion import vocabulary

BPE, UNIGRAM = 2, 1
NORMAL, UNKNOWN, CONTROL, USER, BYTE = 1, 2, 3, 4, 6


def number(value: int) -> bytes:
    out = bytearray()
    while value > 127:
        out.append(value % 128 + 128)
        value //= 128
    return bytes([*out, value])


def varint(field: int, value: int) -> bytes:
    return number(field * 8) + number(value)


def text(field: int, value: bytes) -> bytes:
    return number(field * 8 + 2) + number(len(value)) + value


def piece(word: str, score: float, kind: int) -> bytes:
    body = text(1, word.encode()) + number(2 * 8 + 5) + struct.pack("<f", score) + varint(3, kind)
    return text(1, body)


def model_file(
    path: Path,
    words: list[str],
    *,
    kind: int = BPE,
    prefix: bool = True,
    user: tuple[str, ...] = (),
) -> list[str]:
    """Writes `tokenizer.model`; `words` in the order in which they are joined; gives all pieces."""
    pieces = [("<unk>", 0.0, UNKNOWN), ("<s>", 0.0, CONTROL), ("</s>", 0.0, CONTROL)]
    pieces += [(word, 0.0, USER) for word in user]
    pieces += [(f"<0x{byte:02X}>", 0.0, BYTE) for byte in range(256)]
    pieces += [(word, -float(rank), NORMAL) for rank, word in enumerate(words)]
    letters = sorted(set("".join(words)) - {w for w in words if len(w) == 1})
    pieces += [(letter, -1000.0 - i, NORMAL) for i, letter in enumerate(letters)]
    data = b"".join(piece(*entry) for entry in pieces)
    data += text(2, varint(3, kind) + varint(35, 1) + varint(40, 0) + varint(41, 1))
    data += text(3, text(1, b"identity") + varint(3, int(prefix)) + varint(4, 0))
    path.write_bytes(data)
    return [entry[0] for entry in pieces]


WORDS = ["he", "ll", "▁he", "llo", "▁hello", "▁w", "or"]


def folder(tmp_path: Path, **said: Any) -> Path:
    model_file(tmp_path / "tokenizer.model", WORDS, **said)
    return tmp_path


def test_text_is_cut_as_the_scores_say(tmp_path: Path) -> None:
    tokenizer = vocabulary.load_tokenizer(folder(tmp_path))
    assert tokenizer.tokenize("hello") == ["▁hello"]
    assert tokenizer.tokenize("hell") == ["▁he", "ll"]
    # "world": no piece joins "▁w" with "or".
    assert tokenizer.tokenize("hello wor") == ["▁hello", "▁w", "or"]
    assert tokenizer.tokenize("é") == ["▁", "<0xC3>", "<0xA9>"]
    assert tokenizer("hello").input_ids[0] == tokenizer.bos_token_id == 1
    assert tokenizer.eos_token == "</s>"
    assert tokenizer.unk_token == "<unk>"
    assert tokenizer.decode(tokenizer("hello wor é").input_ids[1:]) == "hello wor é"


def test_offsets_point_into_the_text(tmp_path: Path) -> None:
    tokenizer = vocabulary.load_tokenizer(folder(tmp_path))
    said = tokenizer("hello wor", return_offsets_mapping=True, add_special_tokens=False)
    assert said.offset_mapping == [(0, 5), (5, 7), (7, 9)]


@pytest.mark.parametrize(
    ("legacy", "after"), [(True, ["▁", "<0x0A>", "he"]), (False, ["<0x0A>", "he"])]
)
def test_after_a_special_token_the_old_way_puts_a_space(
    tmp_path: Path, legacy: bool, after: list[str]
) -> None:
    tokenizer = vocabulary.load_tokenizer(folder(tmp_path), legacy=legacy)
    assert tokenizer.tokenize("he</s>\nhe") == ["▁he", "</s>", *after]


def test_the_checkpoint_says_how_old_it_is(tmp_path: Path) -> None:
    source = folder(tmp_path)
    (source / "tokenizer_config.json").write_text('{"legacy": false, "add_bos_token": false}')
    tokenizer = vocabulary.load_tokenizer(source)
    assert tokenizer.tokenize("he</s>he") == ["▁he", "</s>", "he"]
    assert tokenizer("he").input_ids == tokenizer.convert_tokens_to_ids(["▁he"])
    # A format whose own code says otherwise has the last word.
    tokenizer = vocabulary.load_tokenizer(source, legacy=True)
    assert tokenizer.tokenize("he</s>he") == ["▁he", "</s>", "▁he"]


def test_without_a_dummy_prefix_nothing_is_put_in_front(tmp_path: Path) -> None:
    tokenizer = vocabulary.load_tokenizer(folder(tmp_path, prefix=False))
    assert tokenizer.tokenize("hello hello") == ["he", "llo", "▁hello"]
    assert tokenizer.decode(tokenizer("hello hello").input_ids[1:]) == "hello hello"


def test_the_users_own_symbols_are_whole(tmp_path: Path) -> None:
    tokenizer = vocabulary.load_tokenizer(folder(tmp_path, user=("<sep>",)))
    assert "<sep>" in tokenizer.tokenize("he<sep>he")
    assert tokenizer.convert_tokens_to_ids("<sep>") == 3


def test_entries_that_stand_for_something_else_are_renamed(tmp_path: Path) -> None:
    """InternLM2 keeps unused entries, and its added tokens take their ids."""
    words = [*WORDS, "[UNUSED]"]
    pieces = model_file(tmp_path / "tokenizer.model", words)
    at = pieces.index("[UNUSED]")
    decoder = {
        str(at): {"content": "<|im_end|>", "special": True},
        str(len(pieces)): {"content": "<img>", "special": True},
    }
    said = {"added_tokens_decoder": decoder, "auto_map": {"AutoTokenizer": ["x.X", None]}}
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(said))
    tokenizer = vocabulary.load_tokenizer(tmp_path)
    ids = tokenizer.convert_tokens_to_ids(["<|im_end|>", "<img>"])
    assert ids == [at, len(pieces)]
    assert tokenizer("<|im_end|><img>").input_ids == [1, *ids]
    assert vocabulary.add_special(tokenizer, "<img>", "<image>") == 1
    assert vocabulary.rows_needed(tokenizer) == len(pieces) + 2


def test_old_files_beside_it_are_read(tmp_path: Path) -> None:
    source = folder(tmp_path)
    many = 259 + len(WORDS) + len(set("".join(WORDS)))
    (source / "added_tokens.json").write_text(json.dumps({"<im_end>": many + 1, "<x>": many}))
    (source / "special_tokens_map.json").write_text(
        json.dumps({"pad_token": "<unk>", "bos_token": "", "eos_token": {"content": "</s>"}})
    )
    tokenizer = vocabulary.load_tokenizer(source)
    assert tokenizer.convert_tokens_to_ids(["<x>", "<im_end>"]) == [many, many + 1]
    assert tokenizer.pad_token == "<unk>"
    assert tokenizer.bos_token == "<s>"
    saved = tmp_path / "saved"
    tokenizer.save_pretrained(saved)
    made: Any = AutoTokenizer
    again = made.from_pretrained(saved)
    assert again("hello<x>\nwé").input_ids == tokenizer("hello<x>\nwé").input_ids


def test_bytes_and_merges_are_read_as_qwen_has_them(tmp_path: Path) -> None:
    letters = [*"abcdefghijklmnopqrstuvwxyz", "Ġ", "Ċ", ".", "1"]
    words = {w: i for i, w in enumerate([*letters, "he", "Ġhe", "ll"])}
    (tmp_path / "vocab.json").write_text(json.dumps(words))
    (tmp_path / "merges.txt").write_text("#version: 0.2\nh e\nĠ he\nl l\n", encoding="utf-8")
    (tmp_path / "added_tokens.json").write_text(json.dumps({"<|im_end|>": len(words)}))
    tokenizer = vocabulary.load_tokenizer(tmp_path)
    assert tokenizer.tokenize("hell he11.<|im_end|>\n") == [
        "he", "ll", "Ġhe", "1", "1", ".", "<|im_end|>", "Ċ",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda p: (p / "tokenizer.model").write_bytes(b"\xff\xff\xff"), "no sentencepiece model"),
        (lambda p: (p / "tokenizer.model").write_bytes(b""), "no byte-pair model"),
        (lambda p: model_file(p / "tokenizer.model", WORDS, kind=UNIGRAM), "no byte-pair model"),
        (lambda p: (p / "tokenizer.model").unlink(), "holds no tokenizer"),
        (lambda p: (p / "tokenizer.json").write_text("{"), "is broken"),
        (lambda p: (p / "tokenizer_config.json").write_text("["), "cannot be read"),
        (lambda p: (p / "added_tokens.json").write_text('{"x": "y"}'), "added tokens"),
        (lambda p: (p / "added_tokens.json").write_text('{"<x>": 9999}'), "should have id 9999"),
    ],
)
def test_a_broken_tokenizer_is_one_line(tmp_path: Path, damage: Any, words: str) -> None:
    damage(folder(tmp_path))
    with pytest.raises(InputError, match=words) as caught:
        vocabulary.load_tokenizer(tmp_path)
    assert "\n" not in str(caught.value)
