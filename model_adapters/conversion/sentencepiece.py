"""Reader of a sentencepiece `tokenizer.model` without its library: pieces, scores, settings.

The file is a protocol buffer (sentencepiece_model.proto of google/sentencepiece): field 1 of the
whole is a piece (1 text, 2 score, 3 kind), field 2 the trainer's settings (3 model type, 35 byte
fallback), field 3 the normaliser's (2 character map, 3 dummy prefix, 4 extra spaces removed).
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers

from vg_engine.core.errors import InputError

NORMAL, UNKNOWN, CONTROL, USER = 1, 2, 3, 4
_BPE = 2
_SPACE = "\u2581"
_VARINT, _EIGHT, _BYTES, _FOUR = 0, 1, 2, 5


@dataclass(frozen=True)
class Piece:
    """An entry of the vocabulary: its id is its place."""

    text: str
    score: float
    kind: int


@dataclass(frozen=True)
class Pieces:
    """The contents of a `tokenizer.model`.

    Attributes:
        pieces: in the order of their ids.
        byte_fallback: unknown characters become bytes.
        prefix: a space is put in front of a text.
        charsmap: the normaliser's table; empty where text stays as it is.
    """

    pieces: tuple[Piece, ...]
    byte_fallback: bool
    prefix: bool
    charsmap: bytes


def read_pieces(path: Path) -> Pieces:
    """Read a `tokenizer.model`.

    Raises:
        InputError: it is not a sentencepiece file, or not of the byte-pair kind.
    """
    pieces: list[Piece] = []
    trainer: dict[int, int | bytes] = {}
    normaliser: dict[int, int | bytes] = {}
    try:
        for field, value in _fields(path.read_bytes()):
            if field == 1 and isinstance(value, bytes):
                pieces.append(_piece(value))
            elif field == 2 and isinstance(value, bytes):
                trainer = dict(_fields(value))
            elif field == 3 and isinstance(value, bytes):
                normaliser = dict(_fields(value))
    except (OSError, ValueError, IndexError, struct.error) as error:
        raise InputError(
            f"{path} is no sentencepiece model; download it again, or put a tokenizer.json beside "
            "the weights"
        ) from error
    if not pieces or trainer.get(3, 1) != _BPE:
        raise InputError(
            f"{path} is no byte-pair model, and only these are read without further libraries; "
            "put a tokenizer.json beside the weights"
        )
    charsmap = normaliser.get(2, b"")
    return Pieces(
        tuple(pieces),
        byte_fallback=bool(trainer.get(35, 0)),
        prefix=bool(normaliser.get(3, 1)),
        charsmap=charsmap if isinstance(charsmap, bytes) else b"",
    )


def build(found: Pieces, renamed: dict[int, str], *, legacy: bool) -> Tokenizer:
    """Build a tokenizer that splits text as the file states, without special tokens.

    Args:
        found: the file's contents.
        renamed: id -> text of entries that the checkpoint uses for something else.
        legacy: a space is put in front of every stretch between special tokens, not only of the
            first (transformers' old behaviour, which LLaMA's early descendants were trained with).
    """
    texts = [renamed.get(index, piece.text) for index, piece in enumerate(found.pieces)]
    tokenizer = Tokenizer(
        models.BPE(
            vocab={text: index for index, text in enumerate(texts)},
            merges=_merges(found, renamed),
            unk_token=next((p.text for p in found.pieces if p.kind == UNKNOWN), None),
            fuse_unk=True,
            byte_fallback=found.byte_fallback,
        )
    )
    steps: list[normalizers.Normalizer] = []
    if found.charsmap:
        steps.append(normalizers.Precompiled(found.charsmap))
    if found.prefix and legacy:
        steps.append(normalizers.Prepend(_SPACE))
    if legacy or not found.prefix:
        steps.append(normalizers.Replace(" ", _SPACE))
    else:
        tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(_SPACE, "first", split=False)
    if steps:
        tokenizer.normalizer = normalizers.Sequence(steps)
    back: list[decoders.Decoder] = [
        decoders.Replace(_SPACE, " "),
        decoders.ByteFallback(),
        decoders.Fuse(),
    ]
    tokenizer.decoder = decoders.Sequence(
        [*back, decoders.Strip(" ", 1, 0)] if found.prefix else back
    )
    return tokenizer


def _merges(found: Pieces, renamed: dict[int, str]) -> list[tuple[str, str]]:
    """List the pairs in the order of merging: those that form the best piece first."""
    ids = {
        piece.text: index
        for index, piece in enumerate(found.pieces)
        if piece.kind == NORMAL and index not in renamed
    }
    pairs = [
        (-found.pieces[index].score, ids[text[:cut]], ids[text[cut:]], text[:cut], text[cut:])
        for text, index in ids.items()
        for cut in range(1, len(text))
        if text[:cut] in ids and text[cut:] in ids
    ]
    return [(left, right) for *_, left, right in sorted(pairs)]


def _piece(data: bytes) -> Piece:
    text, score, kind = "", 0.0, NORMAL
    for field, value in _fields(data):
        if field == 1 and isinstance(value, bytes):
            text = value.decode("utf-8")
        elif field == 2 and isinstance(value, bytes):
            score = float(struct.unpack("<f", value)[0])
        elif field == 3 and isinstance(value, int):
            kind = value
    return Piece(text, score, kind)


def _fields(data: bytes) -> Iterator[tuple[int, int | bytes]]:
    """Iterate over the fields of a message: numbers as such, everything else as bytes."""
    at = 0
    while at < len(data):
        tag, at = _number(data, at)
        kind = tag & 7
        value: int | bytes
        if kind == _VARINT:
            value, at = _number(data, at)
        else:
            length = {_EIGHT: 8, _FOUR: 4}.get(kind)
            if kind == _BYTES:
                length, at = _number(data, at)
            if length is None or at + length > len(data):
                raise ValueError("no protocol buffer")
            value, at = data[at : at + length], at + length
        yield tag >> 3, value


def _number(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[at]
        value |= (byte & 127) << shift
        at, shift = at + 1, shift + 7
        if byte < 128:
            return value, at
        if shift > 63:
            raise ValueError("no protocol buffer")
