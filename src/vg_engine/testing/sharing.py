"""Checks of what an adapter may declare: kept prefixes and packed expressions.

Both are exact or they are nothing: attention to the picture must be what it is when each
expression is asked alone, also after another picture went through the model.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float32

from vg_engine.core.contract.inputs import Expression, PreparedInputs
from vg_engine.core.contract.picture import Picture
from vg_engine.core.contract.prompt import Prompt
from vg_engine.core.contract.scene import Scene
from vg_engine.testing.harness import ContractError, Harness, image_positions, noise
from vg_engine.testing.parity import EXPRESSIONS, SIZES

TOLERANCE = 1e-4
Rows = list[Float32[torch.Tensor, "heads _rows _tokens"]]


def on_image(opened: Harness, inputs: PreparedInputs) -> Rows:
    """Per query the rows of all heads on the picture's tokens, view by view."""
    views = opened.views(inputs)
    rows = opened.rows(inputs)
    return [row[..., image_positions(seen)] for row, seen in zip(rows, views, strict=True)]


def alone(
    opened: Harness, pictures: Sequence[Picture], asked: Sequence[Expression], prompt: Prompt
) -> Rows:
    """The same, each expression in a pass of its own."""
    return [
        on_image(opened, opened.prepare([pictures[e.scene]], [Expression(0, e.text)], prompt))[0]
        for e in asked
    ]


def check_packing(opened: Harness, prompt: Prompt | None = None) -> float:
    """Expressions that share a sequence do not see each other; returns the difference.

    Raises:
        ContractError: rows differ, or nothing is packed.
    """
    prompt = prompt or Prompt(query_row="expression_all")
    pictures = [noise(size, seed) for seed, size in enumerate(SIZES[:2])]
    # Two about one picture that begin alike, one that is longer, and one about another picture.
    asked = [Expression(i, t) for i, t in ((0, "the cup"), (0, "the cap"), (1, EXPRESSIONS[1]))]
    asked += [Expression(0, EXPRESSIONS[2])]
    inputs = opened.prepare(pictures, asked, prompt)
    sequences = {query.sequence for query in inputs.queries}
    if len(sequences) == len(asked):
        raise ContractError("packing is declared, and every expression has a sequence of its own")
    return _compared(
        "packed", asked, on_image(opened, inputs), alone(opened, pictures, asked, prompt)
    )


def check_prefix(opened: Harness, prompt: Prompt | None = None) -> float:
    """A kept picture gives the rows of a fresh one, whatever came between; returns the difference.

    Raises:
        ContractError: rows differ, a kept prefix was changed by use, or nothing is kept.
    """
    prompt = prompt or Prompt(query_row="expression_all")
    worst = 0.0
    pictures = [noise(size, seed) for seed, size in enumerate(SIZES)]
    scenes = [_opened(opened, picture, prompt) for picture in pictures]
    # Each kept picture twice, with the others in between.
    for index in (0, 1, 2, 0, 1):
        asked = [Expression(0, text) for text in EXPRESSIONS]
        inputs = opened.hooks.prepare_inputs(opened.model, [scenes[index]], asked, prompt)
        expected = alone(opened, [pictures[index]], asked, prompt)
        for _ in range(2):
            found = on_image(opened, inputs)
            worst = max(worst, _compared("with a kept prefix", asked, found, expected))
    for scene in scenes:
        if scene.encoding is not None:
            scene.encoding.close()
    return worst


def _opened(opened: Harness, picture: Picture, prompt: Prompt) -> Scene:
    """The scene of a picture that the adapter keeps.

    Raises:
        ContractError: it keeps nothing.
    """
    encoding = opened.hooks.open_scene(opened.model, picture, prompt, opened.model.layers)
    if encoding is None:
        raise ContractError("prefix reuse is declared, but vg_open_scene answers nothing")
    return Scene(picture, encoding)


def _compared(how: str, asked: Sequence[Expression], found: Rows, expected: Rows) -> float:
    worst = 0.0
    for expression, row, one in zip(asked, found, expected, strict=True):
        if row.shape != one.shape:
            raise ContractError(
                f"{expression.text!r} {how}: rows of shape {tuple(row.shape)}, alone "
                f"{tuple(one.shape)}"
            )
        off = (row - one).abs().max().item()
        if not off <= TOLERANCE:
            raise ContractError(f"{expression.text!r} {how} differs from alone by {off:.3g}")
        worst = max(worst, off)
    return worst
