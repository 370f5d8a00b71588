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
Edit = Callable[[Callable[..., Any]], Any]


@pytest.fixture
def edit(make_engine: Callable[..., Engine]) -> Edit:
    """Edits the picture by a function of what the engine found in it."""

    def run(change: Callable[[Grounding], Any]) -> Any:
        class Editor:
            def vg_edit(self, grounding: Grounding, picture: Picture) -> Any:
                assert picture is PICTURE
                return change(grounding)

        manager = Manager()
        manager.register(Editor(), name="editor")
        answer = make_engine().ground(PICTURE, "1,4")
        return EditHook(manager, "editor").edit(answer, PICTURE)

    return run


def test_an_editor_gets_what_the_engine_found(edit: Edit) -> None:
    masks = []

    def blacken(grounding: Grounding) -> Picture:
        masks.append(grounding.mask)
        return Picture(PICTURE.pixels * ~grounding.mask[..., None], PICTURE.source)

    edited = edit(blacken)
    assert masks[0].any()
    assert np.array_equal(edited.pixels[..., 0] == 0, masks[0])
    assert edited.source == "grey"


def test_where_nothing_is_edited_the_picture_is_the_same(edit: Edit) -> None:
    assert edit(lambda _: None) is PICTURE


@pytest.mark.parametrize(
    ("made", "description"),
    [(Picture(PICTURE.pixels[:, :60]), r"\(60, 60\)"), ("a picture", "str")],
)
def test_an_editor_that_answers_wrongly_is_named(
    edit: Edit, made: object, description: str
) -> None:
    with pytest.raises(PluginError, match=rf"'editor': vg_edit returned {description} instead of"):
        edit(lambda _: made)
