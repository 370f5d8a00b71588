"""Shared by the tests of the families: contracts, tiny checkpoints and questions in one line."""

import json
from collections.abc import Callable
from operator import attrgetter
from types import MappingProxyType
from typing import Any

import pytest
import torch

from vg_engine.core.contract.inputs import Expression
from vg_engine.core.contract.prompt import Prompt
from vg_engine.core.errors import TokenCountError
from vg_engine.testing import AdapterContract, Golden, noise, open_adapter
from vg_engine.testing.tiny import save_tiny

# A question with words behind it: the full stop and the newline there are one token.
FIND = MappingProxyType({"template": "Find {expression}\nNow", "system": "See.", "rows": (256,)})
# Sizes of a tiny vision tower, by the names that most configs have.
TOWER = MappingProxyType(
    {
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
    }
)
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


def refuses(opened, setting, value, counts, size=(64, 64)):
    """A setting that does not belong to the model is refused, before or behind the processor.

    Args:
        opened: is left as it was.
        setting: of the processor, or `module...` of the model.
        value: what it is set to.
        counts: how many tokens are expected, and how many are made; None for any number.
        size: of the picture.
    """
    owner, _, name = setting.rpartition(".")
    root = opened.model if owner.startswith("module") else opened.model.processor
    part = attrgetter(owner)(root) if owner else root
    before, own = ask(opened, size), getattr(part, name)
    opened.views(before)
    setattr(part, name, value)
    expected, made = (r"\d+" if count is None else count for count in counts)
    try:
        with pytest.raises(TokenCountError, match=f"expected {expected} image .*made {made}"):
            # Some settings change what the adapter expects, others what the processor makes.
            [opened.views(inputs()) for inputs in (lambda: before, lambda: ask(opened, size))]
    finally:
        setattr(part, name, own)


def fields(text: str) -> dict[str, Any]:
    """`a=1 b=[2,3] c=word` as a dict: values as JSON has them, else words."""
    pairs = (each.partition("=") for each in text.split())
    return {name: _value(value) for name, _, value in pairs}


def _value(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text


def scale(module: torch.nn.Module, factor: float, *endings: str) -> None:
    """Scale the weights whose names end so: where norms undo what projections are scaled by."""
    for name, parameter in module.named_parameters():
        if name.endswith(endings):
            parameter.data.mul_(factor)


def save(model_class, config, processor, folder, *, sharpness=12.0):
    """Write a tiny checkpoint with random weights, always the same; see `save_tiny`."""
    torch.manual_seed(0)
    return save_tiny(model_class(config), processor, folder, sharpness=sharpness)


def chat(turn, picture, end, *, answer="", opening="", after=""):
    """A chat template: every turn opened and ended alike, its pictures and its text as they come.

    Args:
        turn: what opens a turn; ROLE stands for its role.
        picture: what stands for a picture.
        end: what ends a turn.
        answer: what opens the answer.
        opening: what opens the whole.
        after: what stands behind a text.
    """
    return (
        f"{_said(opening)}{{% for message in messages %}}{_said(turn)}"
        "{% for part in message['content'] %}{% if part['type'] == 'image' %}"
        f"{_said(picture)}{{% else %}}{{{{ part['text'] }}}}{_said(after)}{{% endif %}}"
        f"{{% endfor %}}{_said(end)}{{% endfor %}}"
        f"{{% if add_generation_prompt %}}{_said(answer)}{{% endif %}}"
    )


def _said(text):
    """Written as an expression, so that no newline behind a block is lost."""
    if "{" in text:
        return text
    parts = (f"{{{{ {part!r} }}}}" for part in text.split("ROLE"))
    return "{{ message['role'] }}".join(parts)


def sees_a_window(opened, width):
    """Layers of a window see nothing before it, the others do."""
    inputs = ask(opened, (300, 200), "the cup")
    (rows,), last = opened.rows(inputs), inputs.queries[0].rows[0]
    kinds = opened.model.module.config.text_config.layer_types
    assert set(kinds) == {"sliding_attention", "full_attention"}
    for head, values in zip(opened.model.all_heads, rows, strict=True):
        beyond = values[0, : last - width + 1].max().item()
        assert (beyond == 0) == (kinds[head.layer] == "sliding_attention")


def plain(model_class):
    """`load_plain` of a contract, for a class that transformers' own factory does not know."""

    def load_plain(_, folder, attention):
        return model_class.from_pretrained(
            folder, attn_implementation=attention, dtype=torch.float32
        ).eval()

    return load_plain


def keep_own_pixels(part, *, fresh=True):
    """Of a convolution's window only what lies in its own cell; `fresh` draws new weights."""
    mask = torch.zeros(part.weight.shape[-2:])
    # Steps of two pad outside the convolution, on the right and below; those in time all around.
    first = 1 if isinstance(part, torch.nn.Conv3d) else int(part.padding[-1])
    step = part.stride[-1]
    mask[first : first + step, first : first + step] = 1
    if fresh:
        torch.nn.init.normal_(part.weight)
        seen = part.in_channels * mask.sum() * part.weight[0, 0].numel() / mask.numel()
        mask /= seen**0.5
    part.weight.data *= mask


def even_out(module):
    """Give all taps of a kernel the same weight: random ones move a token's place by chance."""
    for part in module.modules():
        if isinstance(part, torch.nn.Conv2d) and part.kernel_size == (3, 3):
            part.weight.data[:] = part.weight.data.mean((-2, -1), keepdim=True)


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


def shows(opened, size, shape, extent):
    """A picture of that size is one grid of that shape, which lies there; returns its view."""
    (view,) = views(opened, size)
    assert view.shape == shape
    assert view.extent == pytest.approx(extent)
    return view
