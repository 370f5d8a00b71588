"""Editors: `vg_engine.edit`, by name with options or as an object, and what is refused."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import vg_engine
from vg_engine import Grounding, InputError, NotFoundError, Picture, PluginError

PIXELS = np.full((60, 60, 3), 120, np.uint8)


class Paint:
    def __init__(self, *, grey: int = 0) -> None:
        self.grey = grey

    def vg_edit(self, grounding: Grounding, picture: Picture) -> Picture:
        pixels = picture.pixels.copy()
        pixels[grounding.mask] = self.grey
        return Picture(pixels)


class Cuts:
    def vg_edit(self, picture: Picture) -> Picture:
        return Picture(picture.pixels[:5])


class Both(Paint):
    def vg_postprocess(self, groundings: Any) -> None: ...


@pytest.fixture
def answer() -> Grounding:
    with vg_engine.load("cells", adapter="cell", heads="L2H1") as engine:
        return engine.ground(PIXELS, "1,4")


def test_editors(answer: Grounding, package: Path, kit: Any, monkeypatch: Any) -> None:
    monkeypatch.setattr(kit, "Paint", Paint, raising=False)
    file = package / "vg_cells-0.7.dist-info" / "entry_points.txt"
    file.write_text(file.read_text() + "[vg_engine.editors]\npaint = vg_cells:Paint\n")
    made = vg_engine.edit(answer, PIXELS, "paint:grey=7")
    assert answer.mask is not None
    assert np.unique(made.pixels[answer.mask]).tolist() == [7]
    assert np.unique(made.pixels[~answer.mask]).tolist() == [120]
    assert vg_engine.edit(answer, PIXELS, Paint()).pixels[answer.mask].max() == 0
    nothing = replace(answer, presence=0.0, threshold=0.5)
    assert np.array_equal(vg_engine.edit(nothing, PIXELS, Paint()).pixels, PIXELS)
    with pytest.raises(InputError, match="grey"):
        vg_engine.edit(answer, PIXELS, "paint:gray=7")
    with pytest.raises(NotFoundError, match=r"editor 'pant'.*did you mean paint"):
        vg_engine.edit(answer, PIXELS, "pant")


def test_wrong_editors_and_pictures_are_refused(answer: Grounding) -> None:
    with pytest.raises(PluginError, match=r"'Cuts': vg_edit returned \(60, 5\)"):
        vg_engine.edit(answer, PIXELS, Cuts())
    with pytest.raises(PluginError, match="is not an editor: it implements"):
        vg_engine.edit(answer, PIXELS, Both())
    with pytest.raises(InputError, match="edit the picture that was grounded"):
        vg_engine.edit(answer, PIXELS[:30], Paint())
