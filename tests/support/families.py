"""Shared by the tests of the families: contracts, tiny checkpoints and questions in one line."""

from collections.abc import Callable
from operator import attrgetter
from types import MappingProxyType
from typing import Any

import pytest
from building import TOWER, chat, even_out, fields, keep_own_pixels, plain, save, scale  # noqa: F401

from vg_engine.core.contract.inputs import Expression
from vg_engine.core.contract.prompt import Prompt
from vg_engine.core.errors import TokenCountError
from vg_engine.model_adapters.shared.huggingface import VICUNA  # noqa: F401
from vg_engine.testing import AdapterContract, Golden, noise, open_adapter

# A question with words behind it: the full stop and the newline there are one token.
FIND = MappingProxyType({"template": "Find {expression}\nNow", "system": "See.", "rows": (256,)})
# The names that a tower's weights had before transformers 5.
RENAMED = ((r"^vision_tower\.", "vision_tower.vision_model."),)
# transformers' own processors hand PyTorch's tensors to numpy in a way that numpy 2 warns of.
ARRAYS = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")


def contract(adapter: Any, golden: Any, build: Callable[..., Any], **members: Any) -> Any:
    """The contract of an adapter on what `build(folder)` writes.

    Args:
        adapter, golden: as of the class.
        build: writes the checkpoint.
        members: further members of the class; `foreign` is what `refuses` is given.
    """
    made = {"adapter": adapter, "golden": golden, "build": lambda _, folder: build(folder)}
    bases = (_Foreign, AdapterContract) if "foreign" in members else (AdapterContract,)
    return type("Contract", bases, made | members)


class _Foreign:
    def test_a_processor_that_does_not_belong_to_the_model_is_refused(self, opened):
        refuses(opened, *self.foreign)


def checkpoint(build: Callable[..., Any], *arguments: Any, **settings: Any) -> Any:
    """A fixture: the folder that `build(folder, **settings)` wrote, once per module."""

    @pytest.fixture(scope="module")
    def folder(tmp_path_factory):
        made = tmp_path_factory.mktemp("checkpoint") / "tiny"
        build(made, *arguments, **settings)
        return made

    return folder


def loaded(adapter: Any, build: Callable[..., Any], *arguments: Any, **settings: Any) -> Any:
    """A fixture: the adapter with what `build(folder, **settings)` wrote, once per module."""

    @pytest.fixture(scope="module")
    def opened(tmp_path_factory):
        folder = tmp_path_factory.mktemp("checkpoint") / "tiny"
        build(folder, *arguments, **settings)
        return open_adapter(adapter(), str(folder))

    return opened


def ask(opened, size=(64, 64), text="it", prompt=None):
    """Inputs of one expression about a picture of that size."""
    return opened.prepare([noise(size)], [Expression(0, text)], prompt)


def views(opened, size):
    """The views of a picture of that size."""
    return opened.views(ask(opened, size))[0]


def rows_of(adapter, folder, form="bare"):
    """Rows of a question about a photograph, read by that adapter."""
    opened = opens(adapter, folder)
    inputs = ask(opened, (640, 480), "the cup", Prompt(form))
    opened.views(inputs)
    rows = opened.rows(inputs)[0]
    opened.model.close()
    return rows


def image_tokens(opened, size):
    """The number of image tokens of a picture of that size."""
    ids = ask(opened, size).tensors["input_ids"]
    return int((ids == opened.model.processor.image_token_id).sum())


def refuses(opened, setting, value, counts, size=(64, 64), grid=""):
    """A setting that does not belong to the model is refused, before or behind the processor.

    Args:
        opened: is left as it was.
        setting: of the processor, or `module...` of the model.
        value: what it is set to.
        counts: how many tokens are expected, and how many are made; None for any number.
        size: of the picture.
        grid: that the message names.
    """
    owner, _, name = setting.rpartition(".")
    root = opened.model if owner.startswith("module") else opened.model.processor
    part = attrgetter(owner)(root) if owner else root
    before, own = ask(opened, size), getattr(part, name)
    opened.views(before)
    setattr(part, name, value)
    expected, made = (r"\d+" if count is None else count for count in counts)
    try:
        with pytest.raises(
            TokenCountError, match=f"expected {expected} image .*{grid}.*made {made}"
        ):
            # Some settings change what the adapter expects, others what the processor makes.
            [opened.views(inputs()) for inputs in (lambda: before, lambda: ask(opened, size))]
    finally:
        setattr(part, name, own)


def sees_a_window(opened, width):
    """Layers of a window see nothing before it, the others do."""
    inputs = ask(opened, (300, 200), "the cup")
    (rows,), last = opened.rows(inputs), inputs.queries[0].rows[0]
    kinds = opened.model.module.config.text_config.layer_types
    assert set(kinds) == {"sliding_attention", "full_attention"}
    for head, values in zip(opened.model.all_heads, rows, strict=True):
        beyond = values[0, : last - width + 1].max().item()
        assert (beyond == 0) == (kinds[head.layer] == "sliding_attention")


def chatml(asked, system="", answer="<|im_start|>assistant\n"):
    """What Qwen's turns make of a question."""
    description = f"<|im_start|>system\n{system}<|im_end|>\n" if system else ""
    return f"{description}<|im_start|>user\n{asked}<|im_end|>\n{answer}"


def prompted(text, expression="the cup", *, form="chat", rows=None, ids=None, **more):
    """A golden prompt: `rows` are where `byte_tokenizer` has the full stop, or the question mark.

    Args:
        text: as rendered.
        expression: what is asked.
        form, more: of the `Prompt`.
        rows, ids: of the `Golden`.
    """
    rows = rows or ((30,) if expression.endswith("?") else (13,))
    return Golden(expression, Prompt(form, **more), text, ids, rows)


def shows(opened, size, shape, extent=None):
    """A picture of that size is one grid of that shape; it lies there, or shows the whole."""
    (view,) = views(opened, size)
    assert view.shape == shape
    assert view.extent == pytest.approx(extent or (0.0, 0.0, *size))
    return view


def opens(adapter, folder, **options):
    """The adapter with the checkpoint of that folder."""
    return open_adapter(adapter(), str(folder), options=options)


def tiled(opened, size, grid, shape, extents, *, first=(), last=()):
    """A picture of that size is so many rows and columns of tiles, of that many cells each.

    Args:
        extents: where some of the views lie, by their number.
        first, last: names of views before and behind the tiles.
    """
    found, (rows, cols) = views(opened, size), grid
    names = [f"tile {row},{col}" for row in range(rows) for col in range(cols)]
    assert [view.name for view in found] == [*first, *names, *last]
    assert {view.shape for view in found} == {shape}
    for number, extent in extents.items():
        assert found[number].extent == pytest.approx(extent)
    return found


def grids(adapter, build, *known, says=(), options=MappingProxyType({}), **settings):
    """A test: with what `build(folder, **settings)` writes, pictures are grids of known shapes.

    Args:
        known: size, shape and, where it is not the whole picture, extent: as of `shows`.
        says: the statements of the model; none are not looked at.
        options: of the adapter.
    """

    def test(tmp_path):
        opened = opens(adapter, build(tmp_path / "tiny", **settings), **options)
        for picture in known:
            shows(opened, *picture)
        assert not says or opened.model.statements == says
        opened.model.close()

    return test
