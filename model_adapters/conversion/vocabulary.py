"""Tokenizers of original checkpoints, made into `tokenizer.json`; no code of theirs is run."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tokenizers import (
    AddedToken,
    Tokenizer,
    decoders,
    models,
    normalizers,
    pre_tokenizers,
    processors,
)
from tokenizers import Regex as Pattern
from transformers import PreTrainedTokenizerFast
from transformers.models.qwen2.tokenization_qwen2 import PRETOKENIZE_REGEX

from vg_engine.core.errors import InputError
from vg_engine.model_adapters.conversion import sentencepiece
from vg_engine.model_adapters.conversion.source import Checkpoint, line, read_json_beside

_ROLES = ("bos_token", "eos_token", "unk_token", "pad_token")


def load_tokenizer(
    folder: Path, *, legacy: bool | None = None, named: Mapping[str, str] | None = None
) -> Any:
    """Load the tokenizer of a folder as a fast one, with its added tokens at their own ids.

    Args:
        folder: a folder with tokenizer.json, vocab.json and merges.txt, or tokenizer.model.
        legacy: for a tokenizer.model: put a space in front of every stretch between special
            tokens; None: as stated in tokenizer_config.json, by default yes.
        named: attribute -> special token, for processors that look tokens up by name; missing
            ones are added after all others.

    Raises:
        InputError: there is none of these files, or one is broken.
    """
    settings = read_json_beside(folder, "tokenizer_config.json")
    names = _special_names(folder, settings)
    added = _added(folder, settings)
    if (folder / "tokenizer.json").is_file():
        made: Any = _from_json(folder / "tokenizer.json")
    elif (folder / "vocab.json").is_file() and (folder / "merges.txt").is_file():
        made = _from_merges(folder)
    elif (folder / "tokenizer.model").is_file():
        made = _from_pieces(folder / "tokenizer.model", settings, names, added, legacy=legacy)
    else:
        raise InputError(
            f"{folder} holds no tokenizer; put its tokenizer.json (or tokenizer.model, or "
            "vocab.json with merges.txt) beside the weights"
        )
    _add(made, added, folder)
    signs = dict(named or {})
    missing = [token for token in signs.values() if made.token_to_id(token) is None]
    made.add_special_tokens([AddedToken(t, special=True, normalized=False) for t in missing])
    maker: Any = PreTrainedTokenizerFast
    return maker(
        tokenizer_object=made,
        clean_up_tokenization_spaces=False,
        padding_side="left",
        **({"extra_special_tokens": signs} if signs else {}),
        **{role: names[role] for role in _ROLES if names.get(role)},
    )


def add_special(tokenizer: Any, *tokens: str) -> int:
    """Add the missing special tokens after all others; returns the number of added ones."""
    missing = [token for token in tokens if token not in tokenizer.get_vocab()]
    marked = [AddedToken(token, special=True, normalized=False) for token in missing]
    return int(tokenizer.add_tokens(marked, special_tokens=True))


def rows_needed(tokenizer: Any) -> int:
    """Count the rows that an embedding needs for every id of the tokenizer."""
    return 1 + max(int(index) for index in tokenizer.get_vocab().values())


def with_picture(source: Checkpoint, *, legacy: bool = False) -> tuple[Any, int]:
    """Load the tokenizer with `<image>` and padding; returns also the number of embedding rows.

    Args:
        source: a checkpoint in LLaVA's naming.
        legacy: see `load_tokenizer`.
    """
    tokenizer = load_tokenizer(source.folder, legacy=legacy)
    add_special(tokenizer, "<image>")
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.unk_token or tokenizer.eos_token
    entry = source.entries.get("model.embed_tokens.weight")
    return tokenizer, max(entry.shape[0] if entry and entry.shape else 0, rows_needed(tokenizer))


def _special_names(folder: Path, settings: Mapping[str, Any]) -> dict[str, str]:
    """Map role to token, from both files that may state it; empty texts are not tokens."""
    stated = dict(settings) | read_json_beside(folder, "special_tokens_map.json")
    names = {}
    for role in _ROLES:
        token = stated.get(role)
        text = token.get("content") if isinstance(token, Mapping) else token
        if isinstance(text, str) and text:
            names[role] = text
    return names


def _added(folder: Path, settings: Mapping[str, Any]) -> dict[int, AddedToken]:
    """Map id to token, from both files that may state it."""
    found: dict[int, AddedToken] = {}
    try:
        for text, index in read_json_beside(folder, "added_tokens.json").items():
            found[int(index)] = AddedToken(text, special=True, normalized=False)
        for index, token in (settings.get("added_tokens_decoder") or {}).items():
            found[int(index)] = AddedToken(
                token["content"],
                special=bool(token.get("special", True)),
                normalized=False,
                lstrip=bool(token.get("lstrip", False)),
                rstrip=bool(token.get("rstrip", False)),
            )
    except (TypeError, ValueError, KeyError, AttributeError) as error:
        raise InputError(
            f"{folder}: its added tokens cannot be read ({line(error)}); download "
            "added_tokens.json and tokenizer_config.json again"
        ) from error
    return found


def _from_json(path: Path) -> Tokenizer:
    try:
        return Tokenizer.from_file(str(path))
    except Exception as error:  # tokenizers raises bare exceptions
        raise InputError(f"{path} is broken ({line(error)}); download it again") from error


def _from_merges(folder: Path) -> Tokenizer:
    """Make a byte-level byte-pair encoding, as in Qwen2."""
    try:
        made = Tokenizer(
            models.BPE.from_file(str(folder / "vocab.json"), str(folder / "merges.txt"))
        )
    except Exception as error:  # tokenizers raises bare exceptions
        raise InputError(
            f"vocab.json and merges.txt of {folder} do not belong together ({line(error)}); "
            "download them again"
        ) from error
    made.normalizer = normalizers.NFC()
    made.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Pattern(PRETOKENIZE_REGEX), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    made.decoder = decoders.ByteLevel()
    return made


def _from_pieces(
    path: Path,
    settings: Mapping[str, Any],
    names: dict[str, str],
    added: Mapping[int, AddedToken],
    *,
    legacy: bool | None,
) -> Tokenizer:
    """Make a tokenizer of a sentencepiece model; entries replaced by added tokens are renamed."""
    found = sentencepiece.read_pieces(path)
    pieces = found.pieces
    renamed = {
        index: token.content
        for index, token in added.items()
        if index < len(pieces) and pieces[index].text != token.content
    }
    stated = legacy if legacy is not None else bool(settings.get("legacy", True))
    made = sentencepiece.build(found, renamed, legacy=stated)
    controls = [p.text for p in pieces if p.kind == sentencepiece.CONTROL]
    unknown = next((p.text for p in pieces if p.kind == sentencepiece.UNKNOWN), None)
    for role, token in zip(("bos_token", "eos_token"), controls, strict=False):
        names.setdefault(role, token)
    if unknown is not None:
        names.setdefault("unk_token", unknown)
    special = [t for t in (unknown, *controls) if t is not None and t not in renamed.values()]
    made.add_special_tokens([AddedToken(t, special=True, normalized=False) for t in special])
    made.add_tokens(
        [
            AddedToken(p.text, special=False, normalized=False)
            for i, p in enumerate(pieces)
            if p.kind == sentencepiece.USER and i not in renamed
        ]
    )
    bos = names.get("bos_token")
    if bos is not None and settings.get("add_bos_token", True):
        made.post_processor = processors.TemplateProcessing(
            single=f"{bos} $A",
            pair=f"{bos} $A {bos}:1 $B:1",
            special_tokens=[(bos, made.token_to_id(bos))],
        )
    return made


def _add(made: Tokenizer, added: Mapping[int, AddedToken], folder: Path) -> None:
    for index, token in sorted(added.items()):
        add = made.add_special_tokens if token.special else made.add_tokens
        add([token])
        if made.token_to_id(token.content) != index:
            raise InputError(
                f"{folder}: its token {token.content!r} should have id {index} and would have "
                f"{made.token_to_id(token.content)}; put its tokenizer.json beside the weights"
            )
