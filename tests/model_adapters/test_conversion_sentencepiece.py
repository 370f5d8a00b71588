"""sentencepiece models, encoded here field by field, and read without sentencepiece."""

import json
import struct

import pytest
from transformers import AutoTokenizer

from vg_engine.core.errors import InputError
from vg_engine.model_adapters.conversion import vocabulary

BPE, UNIGRAM = 2, 1
NORMAL, UNKNOWN, CONTROL, USER, BYTE = 1, 2, 3, 4, 6
WORDS = ["he", "ll", "▁he", "llo", "▁hello", "▁w", "or"]


def number(value):
    out = bytearray()
    while value > 127:
        out.append(value % 128 + 128)
        value //= 128
    return bytes([*out, value])


def varint(field, value):
    return number(field * 8) + number(value)


def text(field, value):
    return number(field * 8 + 2) + number(len(value)) + value


def piece(word, score, kind):
    body = text(1, word.encode()) + number(2 * 8 + 5) + struct.pack("<f", score) + varint(3, kind)
    return text(1, body)


def model_file(folder, words=WORDS, *, kind=BPE, prefix=True, user=()):
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
    (folder / "tokenizer.model").write_bytes(data)
    return [entry[0] for entry in pieces]


def write(folder, file, description):
    (folder / file).write_text(json.dumps(description))


@pytest.fixture
def folder(tmp_path):
    model_file(tmp_path)
    return tmp_path


def test_text_is_cut_as_the_scores_say(folder):
    tokenizer = vocabulary.load_tokenizer(folder)
    assert tokenizer.tokenize("hello") == ["▁hello"]
    assert tokenizer.tokenize("hell") == ["▁he", "ll"]
    # "world": no piece joins "▁w" with "or".
    assert tokenizer.tokenize("hello wor") == ["▁hello", "▁w", "or"]
    assert tokenizer.tokenize("é") == ["▁", "<0xC3>", "<0xA9>"]
    assert tokenizer("hello").input_ids[0] == tokenizer.bos_token_id == 1
    assert (tokenizer.eos_token, tokenizer.unk_token) == ("</s>", "<unk>")
    assert tokenizer.decode(tokenizer("hello wor é").input_ids[1:]) == "hello wor é"
    description = tokenizer("hello wor", return_offsets_mapping=True, add_special_tokens=False)
    assert description.offset_mapping == [(0, 5), (5, 7), (7, 9)]


@pytest.mark.parametrize(
    ("legacy", "after"), [(True, ["▁", "<0x0A>", "he"]), (False, ["<0x0A>", "he"])]
)
def test_after_a_special_token_the_old_way_puts_a_space(folder, legacy, after):
    tokenizer = vocabulary.load_tokenizer(folder, legacy=legacy)
    assert tokenizer.tokenize("he</s>\nhe") == ["▁he", "</s>", *after]


def test_the_checkpoint_says_how_old_it_is(folder):
    write(folder, "tokenizer_config.json", {"legacy": False, "add_bos_token": False})
    tokenizer = vocabulary.load_tokenizer(folder)
    assert tokenizer.tokenize("he</s>he") == ["▁he", "</s>", "he"]
    assert tokenizer("he").input_ids == tokenizer.convert_tokens_to_ids(["▁he"])
    # A format whose own code says otherwise has the last word.
    tokenizer = vocabulary.load_tokenizer(folder, legacy=True)
    assert tokenizer.tokenize("he</s>he") == ["▁he", "</s>", "▁he"]


def test_without_a_dummy_prefix_nothing_is_put_in_front(tmp_path):
    model_file(tmp_path, prefix=False)
    tokenizer = vocabulary.load_tokenizer(tmp_path)
    assert tokenizer.tokenize("hello hello") == ["he", "llo", "▁hello"]
    assert tokenizer.decode(tokenizer("hello hello").input_ids[1:]) == "hello hello"


def test_the_users_own_symbols_are_whole(tmp_path):
    model_file(tmp_path, user=("<sep>",))
    tokenizer = vocabulary.load_tokenizer(tmp_path)
    assert "<sep>" in tokenizer.tokenize("he<sep>he")
    assert tokenizer.convert_tokens_to_ids("<sep>") == 3


def test_entries_that_stand_for_something_else_are_renamed(tmp_path):
    """InternLM2 keeps unused entries, and its added tokens take their ids."""
    pieces = model_file(tmp_path, [*WORDS, "[UNUSED]"])
    at, more = pieces.index("[UNUSED]"), len(pieces)
    names = {at: "<|im_end|>", more: "<img>"}
    decoder = {str(place): {"content": name, "special": True} for place, name in names.items()}
    description = {"added_tokens_decoder": decoder, "auto_map": {"AutoTokenizer": ["x.X", None]}}
    write(tmp_path, "tokenizer_config.json", description)
    tokenizer = vocabulary.load_tokenizer(tmp_path)
    assert tokenizer.convert_tokens_to_ids([*names.values()]) == [at, more]
    assert tokenizer("<|im_end|><img>").input_ids == [1, at, more]
    assert vocabulary.add_special(tokenizer, "<img>", "<image>") == 1
    assert vocabulary.rows_needed(tokenizer) == more + 2


def test_old_files_beside_it_are_read(folder):
    many = 259 + len(WORDS) + len(set("".join(WORDS)))
    write(folder, "added_tokens.json", {"<im_end>": many + 1, "<x>": many})
    special = {"pad_token": "<unk>", "bos_token": "", "eos_token": {"content": "</s>"}}
    write(folder, "special_tokens_map.json", special)
    tokenizer = vocabulary.load_tokenizer(folder)
    assert tokenizer.convert_tokens_to_ids(["<x>", "<im_end>"]) == [many, many + 1]
    assert (tokenizer.pad_token, tokenizer.bos_token) == ("<unk>", "<s>")
    tokenizer.save_pretrained(folder / "saved")
    again = AutoTokenizer.from_pretrained(folder / "saved")
    assert again("hello<x>\nwé").input_ids == tokenizer("hello<x>\nwé").input_ids


def test_bytes_and_merges_are_read_as_qwen_has_them(tmp_path):
    pieces = [*"abcdefghijklmnopqrstuvwxyz", "Ġ", "Ċ", ".", "1", "he", "Ġhe", "ll"]
    write(tmp_path, "vocab.json", {piece: i for i, piece in enumerate(pieces)})
    (tmp_path / "merges.txt").write_text("#version: 0.2\nh e\nĠ he\nl l\n", encoding="utf-8")
    write(tmp_path, "added_tokens.json", {"<|im_end|>": len(pieces)})
    tokenizer = vocabulary.load_tokenizer(tmp_path)
    expected = ["he", "ll", "Ġhe", "1", "1", ".", "<|im_end|>", "Ċ"]
    assert tokenizer.tokenize("hell he11.<|im_end|>\n") == expected


@pytest.mark.parametrize(
    ("file", "holds", "words"),
    [
        ("tokenizer.model", b"\xff\xff\xff", "no sentencepiece model"),
        ("tokenizer.model", b"", "no byte-pair model"),
        ("tokenizer.model", UNIGRAM, "no byte-pair model"),
        ("tokenizer.model", None, "holds no tokenizer"),
        ("tokenizer.json", b"{", "is broken"),
        ("tokenizer_config.json", b"[", "cannot be read"),
        ("added_tokens.json", b'{"x": "y"}', "added tokens"),
        ("added_tokens.json", b'{"<x>": 9999}', "should have id 9999"),
    ],
)
def test_a_broken_tokenizer_is_one_line(folder, file, holds, words):
    if holds is None:
        (folder / file).unlink()
    elif holds == UNIGRAM:
        model_file(folder, kind=UNIGRAM)
    else:
        (folder / file).write_bytes(holds)
    with pytest.raises(InputError, match=words) as caught:
        vocabulary.load_tokenizer(folder)
    assert "\n" not in str(caught.value)
