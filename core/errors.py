"""The tree of errors; every message says what to do next.

```
VGError                      anything this engine refuses; the command line exits with 2
├── InputError               unusable input
│   ├── PictureError         no such file, not a picture, truncated, too large
│   ├── ExpressionError      an empty expression
│   └── OutputError          a result cannot be written
├── NotFoundError            an unknown name (the message gives the nearest known ones)
│   ├── AdapterNotFoundError
│   ├── ModelNotFoundError
│   └── HeadSetNotFoundError
├── ModelError               a model that cannot be loaded or does not fit
│   ├── WeightsError         no safetensors, keys that do not match
│   ├── UnsupportedModelError  a connector without a grid, attention that cannot be captured
│   └── TokenCountError      the processor made an unexpected number of image tokens
├── HeadsError               heads out of range, a head set that does not fit the model
├── CaptureError             requested attention rows did not arrive
└── PluginError              a plugin that is broken or returns wrong values (it is named)
```
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable

_LISTED = 12  # known names that a message lists


class VGError(Exception):
    """Base of all errors that this engine raises on purpose."""


class InputError(VGError):
    """Input that cannot be used."""


class PictureError(InputError):
    """A picture that is missing, broken, of a refused format or too large."""


class ExpressionError(InputError):
    """A referring expression that is empty or is not text."""


class OutputError(InputError):
    """A result that cannot be written where it was asked for."""


class NotFoundError(VGError):
    """An unknown name."""


class AdapterNotFoundError(NotFoundError):
    """No installed distribution offers an adapter of this name or for this model type."""


class ModelNotFoundError(NotFoundError):
    """Neither a folder nor a known model."""


class HeadSetNotFoundError(NotFoundError):
    """No head set of this name."""


class ModelError(VGError):
    """A model that cannot be loaded, or that does not fit what was asked of it."""


class WeightsError(ModelError):
    """No safetensors, or weights whose keys do not match the model."""


class UnsupportedModelError(ModelError):
    """A model whose image tokens form no grid, or whose attention cannot be captured."""


class TokenCountError(ModelError):
    """The processor made another number of image tokens than the adapter expected."""


class HeadsError(VGError):
    """Heads out of range, or a head set that does not fit the loaded model."""


class CaptureError(VGError):
    """Requested attention rows did not arrive."""


class PluginError(VGError):
    """A plugin that cannot be loaded or returns wrong values; the message names it."""


def nearest(name: str, known: Iterable[str], *, most: int = 3) -> str:
    """Suggest in an error message the known names nearest to `name`, or else list them.

    >>> nearest("masks", ["mask", "box"])
    'did you mean mask?'
    >>> nearest("zzz", ["mask", "box"])
    'known: box, mask'
    >>> nearest("zzz", [])
    'none is installed'
    """
    names = sorted(set(known))
    close = difflib.get_close_matches(name, names, n=most, cutoff=0.5)
    if close:
        return f"did you mean {' or '.join(close)}?"
    more = f" and {len(names) - _LISTED} more" if len(names) > _LISTED else ""
    return f"known: {', '.join(names[:_LISTED])}{more}" if names else "none is installed"
