"""The hook specifications: the contract between the engine and its plugins, and its manual.

An **adapter** is one plugin object that brings one family of models. It implements the first four
hooks, and the optional ones if its models can. A **post-processor** implements `vg_postprocess`.
Any method of a plugin whose name begins with `vg_` is an implementation; no marker is needed. A
misspelt name or argument is refused at registration. An implementation may leave out arguments
that it does not use.

Exactly one adapter is registered per engine. The hooks are called in this order:

```
vg_load_model            once
vg_prepare_inputs        per batch          (vg_encode_prefix before it where a prefix is kept)
vg_locate_image_tokens   per batch
vg_extract_attention     per batch
vg_postprocess           per picture, folded over the post-processors in the order the user named
```

Core calls them through `vg_engine.core.contract.hooks.Hooks` alone, which checks what comes back.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pluggy

from vg_engine.core.contract.inputs import (
    AttentionRequest,
    AttentionRows,
    Expression,
    PreparedInputs,
)
from vg_engine.core.contract.model import LoadedModel, ModelSpec
from vg_engine.core.contract.picture import Picture
from vg_engine.core.contract.prompt import Prompt
from vg_engine.core.contract.results import Grounding
from vg_engine.core.geometry import View

PROJECT = "vg_engine"
hookspec = pluggy.HookspecMarker(PROJECT)


class Specs:
    """All hooks. Each tells when it is called, what to return, and shows an example."""

    @hookspec(firstresult=True)
    def vg_load_model(self, spec: ModelSpec) -> LoadedModel | None:
        """Load a model and make it ready for capture.

        When: once, as the engine is made. With `spec.module` set the model is already in memory:
        wrap it, leave it as it was found on `close`.

        Returns: a `LoadedModel` in evaluation mode on its device. `map_layers` names the layers
        that can point at the picture; `statements` what the user should know (for one:
        whether pictures are cropped or padded). None passes the question on.

        Raises: `ModelError` and its kin, with a sentence that says what to do.

        Example:
            def vg_load_model(self, spec):
                model = MyModel.from_pretrained(spec.source)
                return LoadedModel(spec.source, model, processor, layers=32, heads=32, ...)
        """

    @hookspec(firstresult=True)
    def vg_prepare_inputs(
        self,
        model: LoadedModel,
        images: Sequence[Picture],
        expressions: Sequence[Expression],
        prompt: Prompt,
        prefix: object | None,
    ) -> PreparedInputs | None:
        """Render prompts, process pictures, tokenise, pad.

        When: per batch. `expressions[i].image` indexes `images`. `prefix` is what
        `vg_encode_prefix` returned for the (single) picture, or None.

        Returns: tensors for one forward pass, and one `Query` per expression *in their order*.
        `Query.sequence` is explicit: several queries may share a packed sequence, if the tensors
        carry a mask that keeps them apart. `Query.rows` are the positions of the tokens that
        `prompt.query_row` names, found by character offsets in the rendered, expanded prompt.

        Example:
            return PreparedInputs(tensors, (Query(0, "the cup", sequence=0, rows=(611,)),), sizes)
        """

    @hookspec(firstresult=True)
    def vg_locate_image_tokens(
        self, model: LoadedModel, inputs: PreparedInputs
    ) -> Sequence[Sequence[View]] | None:
        """Say where each image token lies in the original picture.

        When: after `vg_prepare_inputs`.

        Returns: for each *query*, in order, the views of its picture as its own sequence sees
        them (the same picture stands at other positions in a sequence that is padded otherwise).
        A view is an integer grid of positions on the key axis of the layers that are read: for
        cross-attention models that is not the text. Fine tiles, thumbnails and separators are
        views of their own or nothing at all; never guess: raise `TokenCountError` when the
        tokens do not add up.

        Example:
            frame = Frame.of(width, height).resize(336, 336)
            return [[frame.view(start + np.arange(576).reshape(24, 24))] for start in starts]
        """

    @hookspec(firstresult=True)
    def vg_extract_attention(
        self, model: LoadedModel, inputs: PreparedInputs, request: AttentionRequest
    ) -> AttentionRows | None:
        """Run the model as far as needed and return the wanted rows of the wanted heads.

        When: after the tokens are located. Nothing is generated.

        Returns: float32 rows of softmax(q k^T * scale + mask) over *all* keys, per query
        heads x rows x keys, on the model's device, for exactly `request.heads` in their order.
        All layers of `map_layers` share one key axis. Padding holds no mass. Nothing of the model
        has changed afterwards.

        Example:
            return AttentionRows(request.heads, tuple(recorder.rows(query) for query in queries))
        """

    @hookspec(firstresult=True)
    def vg_encode_prefix(self, model: LoadedModel, image: Picture, prompt: Prompt) -> object | None:
        """Optional: encode the picture and the prompt's shared beginning once.

        When: several expressions are asked about one picture and the adapter declares
        `Capabilities.prefix_reuse`. The object is opaque to core and goes back to
        `vg_prepare_inputs`; it must not be changed by use.
        """

    @hookspec(firstresult=True)
    def vg_generate(
        self, model: LoadedModel, inputs: PreparedInputs, max_new_tokens: int
    ) -> Sequence[str] | None:
        """Optional: ordinary generation, one text per query.

        When: explanations and output-token rows ask for it, and the adapter declares
        `Capabilities.generation`.
        """

    @hookspec
    def vg_postprocess(
        self, groundings: Sequence[Grounding], image: Picture
    ) -> Sequence[Grounding] | None:
        """Refine, calibrate or add to the answers for one picture.

        When: once per picture with *all* its groundings, after their regions are read. The
        engine folds the post-processors in the order that the user named them: each sees what
        the one before returned.

        Returns: as many groundings, in the same order; None leaves them as they are.

        Example:
            return [replace(g, score=self.calibrated(g.score)) for g in groundings]
        """


def names() -> tuple[str, ...]:
    """The names of all hooks, in the order of their definition."""
    return tuple(name for name in vars(Specs) if name.startswith("vg_"))


def spec_options(name: str) -> dict[str, Any]:
    """The pluggy options of a hook, for tests and the documentation."""
    options: dict[str, Any] = getattr(getattr(Specs, name), f"{PROJECT}_spec")
    return options
