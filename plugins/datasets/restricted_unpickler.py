"""Restricted unpickler: lists, tuples, dicts, texts, bytes and numbers, and nothing else.

A pickle is a program. This unpickler has no instruction that calls anything, so nothing in the file
can run; an instruction that names a class or a function is refused with that name. It builds on the
standard library's unpickler in Python: the one in C allocates memory by a number in the file, and
may take all memory for a file of ten bytes.
"""

from __future__ import annotations

import io
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

from vg_engine.core.errors import InputError
from vg_engine.plugins.datasets import checks

MAX_BYTES = 256 * 1024 * 1024  # the largest published file of references is below 50 MB

_MARKS = (pickle.PROTO, pickle.FRAME, pickle.STOP, pickle.MARK)
_STACK = (pickle.POP, pickle.POP_MARK, pickle.DUP, pickle.MEMOIZE)
_MEMO = (pickle.GET, pickle.BINGET, pickle.LONG_BINGET)
_MEMO_PUTS = (pickle.PUT, pickle.BINPUT, pickle.LONG_BINPUT)
_NUMBERS = (
    *(pickle.NONE, pickle.NEWTRUE, pickle.NEWFALSE, pickle.FLOAT, pickle.BINFLOAT, pickle.INT),
    *(pickle.BININT, pickle.BININT1, pickle.BININT2, pickle.LONG, pickle.LONG1, pickle.LONG4),
)
_TEXTS = (
    *(pickle.STRING, pickle.BINSTRING, pickle.SHORT_BINSTRING, pickle.UNICODE, pickle.BINUNICODE),
    *(pickle.SHORT_BINUNICODE, pickle.BINUNICODE8),
    *(pickle.BINBYTES, pickle.SHORT_BINBYTES, pickle.BINBYTES8),
)
_SEQUENCES = (
    *(pickle.EMPTY_LIST, pickle.LIST, pickle.APPEND, pickle.APPENDS, pickle.EMPTY_TUPLE),
    *(pickle.TUPLE, pickle.TUPLE1, pickle.TUPLE2, pickle.TUPLE3, pickle.EMPTY_DICT),
)
# These read a module and a name, and then fail in `find_class`, which reports both.
_NAMES = (pickle.GLOBAL, pickle.STACK_GLOBAL, pickle.INST)
_KEYS = (str, bytes, int, float, bool, type(None))
_SHOWN = 60  # characters of a name in messages


class _Instructions(dict[int, Callable[..., Any]]):
    """The allowed instructions; everything else is refused."""

    def __missing__(self, code: int) -> NoReturn:
        raise InputError(f"an instruction {bytes([code])!r} that makes more than plain data")


class _Plain(pickle._Unpickler):  # noqa: SLF001 - the standard library's own machine, in Python
    stack: list[Any]
    append: Callable[[Any], None]
    pop_mark: Callable[[], list[Any]]

    def find_class(self, module: str, name: str) -> NoReturn:
        raise InputError(f"a name of code, {f'{module}.{name}'[:_SHOWN]!a}")

    def load_setitem(self) -> None:
        value, key = self.stack.pop(), self.stack.pop()
        self._fill(self.stack[-1], [key, value])

    def load_setitems(self) -> None:
        items = self.pop_mark()
        self._fill(self.stack[-1], items)

    def load_dict(self) -> None:
        items = self.pop_mark()
        self.append({})
        self._fill(self.stack[-1], items)

    @staticmethod
    def _fill(target: object, items: list[Any]) -> None:
        """Put keys and values into a dict; a tuple as a key could be too deep to hash."""
        if type(target) is not dict or not all(type(key) in _KEYS for key in items[::2]):
            raise InputError("a mapping whose keys are neither texts nor numbers")
        target.update(zip(items[::2], items[1::2], strict=True))

    dispatch = _Instructions(
        {
            code[0]: pickle._Unpickler.dispatch[code[0]]  # noqa: SLF001 - see above
            for code in (
                *(*_MARKS, *_STACK, *_MEMO, *_MEMO_PUTS, *_NUMBERS),
                *(*_TEXTS, *_SEQUENCES, *_NAMES),
            )
        }
        | {
            pickle.SETITEM[0]: load_setitem,
            pickle.SETITEMS[0]: load_setitems,
            pickle.DICT[0]: load_dict,
        }
    )


def loads(data: bytes) -> object:
    """Load the plain data of a pickle; texts of Python 2 are read as Latin-1.

    Raises:
        InputError: it is broken, or holds anything but plain data, which the message names.
    """
    try:
        return _Plain(io.BytesIO(data), encoding="latin-1").load()
    except InputError as error:
        raise InputError(
            f"it holds {error}, which could run a program when it is read; download it again from "
            "where it was published"
        ) from error
    # A broken program makes the unpickler raise nearly anything.
    except Exception as error:
        cause = " ".join(str(error).split())[:_SHOWN]
        raise InputError(
            f"it is not a complete pickle ({type(error).__name__}{f': {cause}' if cause else ''}); "
            "download it again"
        ) from error


def load(path: Path) -> object:
    """Load the plain data of a pickle file.

    Raises:
        InputError: it cannot be read, is too large, is broken, or holds anything but plain data.
    """
    if path.is_file() and path.stat().st_size > MAX_BYTES:
        raise InputError(
            f"{path} has {path.stat().st_size:,} bytes, and a pickle of references at most "
            f"{MAX_BYTES:,}; download it again from where it was published"
        )
    data = checks.read_bytes(path)
    try:
        return loads(data)
    except InputError as error:
        raise InputError(f"{path} is refused: {error}") from error
