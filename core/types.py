"""What travels between the engine, the hooks and the caller: frozen, validated, read-only.

Frames: *original* is the upright picture in pixels, x to the right, y down, float, the left edge
of the first pixel at 0. *grid* is a map's own frame: one unit is one cell. Only
`vg_engine.core.geometry` turns one into the other.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Literal, NamedTuple, get_args

import numpy as np
import torch
from jaxtyping import Bool, Float, Float32, UInt8

from vg_engine.core.errors import ExpressionError, InputError, PictureError
from vg_engine.core.geometry import SoftMap
from vg_engine.core.heads import Head

QueryRow = Literal["expression_last", "expression_all", "prompt_last"]
QUERY_ROWS: tuple[str, ...] = get_args(QueryRow)


def _empty() -> Mapping[str, Any]:
    return MappingProxyType({})


@dataclass(frozen=True, eq=False)
class Picture:
    """An upright RGB picture.

    Attributes:
        pixels: uint8, read-only, rows x columns x RGB.
        source: where it came from, for messages.
        notes: what decoding did to it (turned by EXIF, laid on white, first frame of several).
    """

    pixels: UInt8[np.ndarray, "height width 3"]
    source: str = "picture"
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.pixels.ndim != 3 or self.pixels.shape[2] != 3 or self.pixels.dtype != np.uint8:
            raise PictureError(
                f"{self.source}: expected uint8 RGB of shape (height, width, 3), "
                f"got {self.pixels.dtype} {self.pixels.shape}"
            )
        if 0 in self.pixels.shape:
            raise PictureError(f"{self.source}: the picture has no pixels")
        # A copy where the array could still be changed from outside: results must not move later.
        pixels = self.pixels if not self.pixels.flags.writeable else self.pixels.copy()
        pixels.setflags(write=False)
        object.__setattr__(self, "pixels", pixels)

    @property
    def size(self) -> tuple[int, int]:
        """(width, height) in pixels."""
        return self.pixels.shape[1], self.pixels.shape[0]


class Expression(NamedTuple):
    """A referring expression and the index of the picture that it is about."""

    image: int
    text: str


def clean_expression(text: object) -> str:
    """Strip an expression and check that it is text.

    Raises:
        ExpressionError: empty, not a string, or no text that can be written down.
    """
    if not isinstance(text, str):
        raise ExpressionError(f"an expression must be text, got {type(text).__name__}")
    stripped = " ".join(text.split())
    try:
        stripped.encode("utf-8")
    except UnicodeEncodeError as error:
        raise ExpressionError(
            f"the expression {text!a} is broken text (half a character); write it anew"
        ) from error
    # Control characters and joiners show nothing: categories C (other) and Z (separators).
    if all(unicodedata.category(character)[0] in "CZ" for character in stripped):
        raise ExpressionError("the expression is empty; say what to look for: --text 'the red cup'")
    return stripped


@dataclass(frozen=True)
class Prompt:
    """How an expression is put to the model (paper, section 3: the bare expression and a stop).

    Attributes:
        form: `bare` (system sentence, picture, expression; no question, no assistant turn) or
            `chat` (the model's own chat template, ending where the answer would begin).
        template: the user's text around the expression; `{expression}` stands for it. The
            expression is ended with a full stop unless it already ends a sentence.
        system: system sentence of the bare form; None takes the adapter's.
        query_row: whose attention row is read: `expression_last` (the paper's: the stop that ends
            the expression), `expression_all` (mean over the expression's tokens), `prompt_last`.
    """

    form: Literal["bare", "chat"] = "bare"
    template: str = "{expression}"
    system: str | None = None
    query_row: QueryRow = "expression_last"

    def __post_init__(self) -> None:
        if self.form not in ("bare", "chat"):
            raise InputError(f"prompt form {self.form!r}: choose bare or chat")
        if self.template.count("{expression}") != 1:
            raise InputError(
                f"prompt template {self.template!r} must hold {{expression}} exactly once"
            )
        if self.query_row not in QUERY_ROWS:
            raise InputError(f"query row {self.query_row!r}: choose {', '.join(QUERY_ROWS)}")


@dataclass(frozen=True)
class Capabilities:
    """What an adapter declares that this model can do."""

    early_exit: bool = True
    prefix_reuse: bool = False
    packing: bool = False
    generation: bool = False


@dataclass(frozen=True)
class ModelSpec:
    """What to load, as it came from the user.

    Attributes:
        source: folder or hub id; with `module` set, only a label.
        module, processor: a model that is already in memory.
        device: torch device name; `auto` takes CUDA, then MPS, then the CPU.
        dtype: `auto` takes the checkpoint's on an accelerator and float32 on the CPU.
        options: an adapter's own switches (for one: `geometry` = crop or pad).
    """

    source: str
    revision: str | None = None
    device: str = "auto"
    dtype: str = "auto"
    trust_remote_code: bool = False
    module: torch.nn.Module | None = None
    processor: Any = None
    options: Mapping[str, Any] = field(default_factory=_empty)


@dataclass(frozen=True, eq=False)
class LoadedModel:
    """A model ready for capture.

    Attributes:
        name: id or folder, for messages and provenance.
        layers, heads: decoder layers, attention heads per layer.
        map_layers: the layers whose attention can point at the picture (all, unless the family
            mixes in linear attention or keeps the picture in cross-attention layers).
        statements: what the adapter found or assumed and the user should know, a sentence each.
        context: the adapter's own, opaque to core.
        close: undoes what loading did to a module that was handed in.
    """

    name: str
    module: torch.nn.Module
    processor: Any
    layers: int
    heads: int
    device: torch.device
    dtype: torch.dtype
    revision: str | None = None
    map_layers: tuple[int, ...] | None = None
    capabilities: Capabilities = Capabilities()
    statements: tuple[str, ...] = ()
    context: Mapping[str, Any] = field(default_factory=_empty)
    close: Callable[[], None] = lambda: None

    @property
    def all_heads(self) -> tuple[Head, ...]:
        """Every head that can point at the picture, by layer, then head."""
        layers = range(self.layers) if self.map_layers is None else self.map_layers
        return tuple(Head(layer, head) for layer in layers for head in range(self.heads))


@dataclass(frozen=True)
class Query:
    """One expression about one picture, and where in the prepared batch its rows stand.

    Attributes:
        image: index of the picture in the batch.
        expression: the cleaned text.
        sequence: index in the batch dimension; several queries may share one packed sequence.
        rows: positions on the query axis of that sequence, padding counted.
        prefix_end: number of leading tokens that belong to the shared prefix, if one is declared.
    """

    image: int
    expression: str
    sequence: int
    rows: tuple[int, ...]
    prefix_end: int | None = None

    def __post_init__(self) -> None:
        if not self.rows:
            raise ExpressionError(f"{self.expression!r} has no token to read; use other words")


@dataclass(frozen=True, eq=False)
class PreparedInputs:
    """A batch for one forward pass.

    Attributes:
        tensors: keyword arguments of the model's forward, on its device.
        queries: one per expression, in the order asked.
        images: the pictures, for geometry: (width, height) of each, original upright pixels.
        rendered: the prompt as text per sequence, after expansion of the image tokens; empty where
            sequences are packed.
        unknown: words that the tokenizer does not know, per query.
        context: the adapter's own (grid sizes that only the processor knows).
    """

    tensors: Mapping[str, Any]
    queries: tuple[Query, ...]
    images: tuple[tuple[int, int], ...]
    rendered: tuple[str, ...] = ()
    unknown: tuple[tuple[str, ...], ...] = ()
    context: Mapping[str, Any] = field(default_factory=_empty)


@dataclass(frozen=True)
class AttentionRequest:
    """Which rows to read.

    Attributes:
        heads: wanted heads, any order, no doubles. The forward may stop after the last layer.
    """

    heads: tuple[Head, ...]

    @property
    def last_layer(self) -> int:
        """The deepest layer that is needed."""
        return max(head.layer for head in self.heads)

    def by_layer(self) -> dict[int, tuple[int, ...]]:
        """Layer -> its wanted heads, in the order of the request."""
        wanted: dict[int, tuple[int, ...]] = {}
        for layer, head in self.heads:
            wanted[layer] = (*wanted.get(layer, ()), head)
        return wanted


@dataclass(frozen=True, eq=False)
class AttentionRows:
    """Rows of the softmax over *all* keys, not renormalised over the picture.

    Attributes:
        heads: in the order of the request.
        rows: per query a float32 tensor heads x its rows x keys, on the model's device.
    """

    heads: tuple[Head, ...]
    rows: tuple[Float32[torch.Tensor, "heads _rows _keys"], ...]


@dataclass(frozen=True, eq=False)
class HeadMaps:
    """The maps of one query.

    Attributes:
        heads: whose maps these are.
        maps: the heads' maps fused on one grid (for a single view the token grid itself).
        image_attention: S_img per head: sum of the image entries over all views, in [0, 1].
        notes: what the user should know (a cropped picture, words the tokenizer does not know).
    """

    expression: str
    heads: tuple[Head, ...]
    maps: SoftMap
    image_attention: Float32[np.ndarray, " heads"]
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, eq=False)
class Grounding:
    """Where the picture shows what the expression says.

    Attributes:
        expression: the cleaned text.
        size: (width, height) of the original upright picture.
        boxes: float64, n x 4, xyxy, original pixels, inside the picture, best first; n = 0 only
            if `found` is false.
        masks: one per box.
        soft_map: the combined map on its grid; `heatmap` renders it.
        point: the map's peak (x, y), original pixels.
        score: share of the map's mass inside the region, until something calibrates it.
        found: true until something calibrates it.
        heads: whose maps were combined.
        notes: what the user should know.
        timings: seconds per stage.
        provenance: model, revision, head set, prompt, settings, tool version.
    """

    expression: str
    size: tuple[int, int]
    boxes: Float[np.ndarray, "n 4"]
    masks: tuple[Bool[np.ndarray, "height width"], ...]
    soft_map: SoftMap
    point: tuple[float, float]
    score: float
    found: bool
    heads: tuple[Head, ...]
    notes: tuple[str, ...] = ()
    timings: Mapping[str, float] = field(default_factory=_empty)
    provenance: Mapping[str, Any] = field(default_factory=_empty)

    def __post_init__(self) -> None:
        width, height = self.size
        boxes = np.array(self.boxes, dtype=np.float64).reshape(-1, 4)
        if len(boxes) != len(self.masks):
            raise InputError(f"{len(boxes)} boxes but {len(self.masks)} masks")
        if self.found != bool(len(boxes)):
            raise InputError(f"found is {self.found} but there are {len(boxes)} boxes")
        low, high = boxes[:, :2], boxes[:, 2:]
        limit = np.array([width, height])
        if len(boxes) and not ((low >= 0).all() and (low < high).all() and (high <= limit).all()):
            raise InputError(f"boxes must be xyxy inside {width} x {height}: {boxes.tolist()}")
        masks = []
        for mask in self.masks:
            if mask.shape != (height, width) or mask.dtype != np.bool_:
                raise InputError(
                    f"a mask must be bool of shape {(height, width)}, got {mask.dtype} {mask.shape}"
                )
            masks.append(_read_only(mask))
        if not 0.0 <= self.score <= 1.0 + 1e-6:
            raise InputError(f"score must lie in [0, 1], got {self.score}")
        object.__setattr__(self, "boxes", _read_only(boxes))
        object.__setattr__(self, "masks", tuple(masks))
        object.__setattr__(self, "score", min(float(self.score), 1.0))
        object.__setattr__(self, "timings", MappingProxyType(dict(self.timings)))
        object.__setattr__(self, "provenance", MappingProxyType(dict(self.provenance)))

    @property
    def box(self) -> tuple[float, float, float, float] | None:
        """The best box, xyxy in original pixels; None where nothing was found."""
        if not len(self.boxes):
            return None
        left, top, right, bottom = (float(value) for value in self.boxes[0])
        return left, top, right, bottom

    @property
    def mask(self) -> Bool[np.ndarray, "height width"] | None:
        """The best box's mask, original pixels."""
        return self.masks[0] if self.masks else None

    @property
    def heatmap(self) -> Float32[np.ndarray, "height width"]:
        """The soft map in original pixels, scaled to a maximum of 1; rendered at each access."""
        return self.soft_map.render(self.size)


def _read_only(array: np.ndarray) -> np.ndarray:
    copy = np.array(array)
    copy.setflags(write=False)
    return copy


def pairs(images: int, expressions: Sequence[str]) -> tuple[Expression, ...]:
    """Every expression about every picture, picture by picture."""
    return tuple(Expression(i, clean_expression(t)) for i in range(images) for t in expressions)
