"""An editor makes a new picture of a grounding, and is held to the picture's size."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from vg_engine.core.contract.hooks import EditHook
from vg_engine.core.contract.picture import Picture
from vg_engine.core.contract.results import Grounding
from vg_engine.core.engine.engine import Engine
from vg_engine.core.errors import PluginError
from vg_engine.plugins.manager import Manager

PICTURE = Picture(np.full((60, 120, 3), 200, np.uint8), "grey")


class Blackens:
    """Paints what was found black; a picture without it stays."""

    def vg_edit(self, grounding: Grounding, picture: Picture) -> Picture | None:
        if grounding.mask is None:
            return None
        pixels = picture.pixels.copy()
        pixels[grounding.mask] = 0
        return Picture(pixels, picture.source)


def editor(plugin: object) -> EditHook:
    manager = Manager()
    manager.register(plugin, name="editor")
    return EditHook(manager, "editor")


def test_an_editor_gets_what_the_engine_found(make_engine: Callable[..., Engine]) -> None:
    with make_engine().open(PICTURE) as scene:
        answer = scene.ground("1,4")
        edited = editor(Blackens()).edit(answer, scene.picture)
    assert answer.mask is not None
    assert np.array_equal(edited.pixels[..., 0] == 0, answer.mask)
    assert edited.source == "grey"
    assert (PICTURE.pixels == 200).all(), "the picture itself stays"


def test_where_nothing_is_edited_the_picture_is_the_same(
    make_engine: Callable[..., Engine],
) -> None:
    class Leaves:
        def vg_edit(self, picture: Picture) -> None:
            """Edit nothing."""

    answer = make_engine().ground(PICTURE, "1,4")
    assert editor(Leaves()).edit(answer, PICTURE) is PICTURE


@pytest.mark.parametrize(
    ("made", "said"), [(Picture(PICTURE.pixels[:, :60]), r"\(60, 60\)"), ("a picture", "str")]
)
def test_an_editor_that_answers_wrongly_is_named(
    make_engine: Callable[..., Engine], made: Any, said: str
) -> None:
    class Wrong:
        def vg_edit(self, picture: Picture) -> Any:
            return made

    answer = make_engine().ground(PICTURE, "1,4")
    with pytest.raises(PluginError, match=rf"'editor': vg_edit returned {said} instead of"):
        editor(Wrong()).edit(answer, PICTURE)
