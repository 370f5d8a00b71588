"""The hook specifications: the contract between the engine and its plugins, and its manual.

An **adapter** is one plugin object that brings one family of models. It implements the four hooks
that every engine needs, and the optional ones if its models can. A **post-processor** implements
`vg_postprocess`, an **editor** `vg_edit`. Any method of a plugin whose name begins with `vg_` is an
implementation; no marker is needed. A misspelt name or argument is refused at registration. An
implementation may leave out arguments that it does not use.

Exactly one adapter is registered per engine. The hooks are called in this order:

```
vg_load_model            once
vg_open_scene            optional, per picture: its encoding is kept for further expressions
vg_prepare_inputs        per pass
vg_locate_image_tokens   per pass
vg_extract_attention     per pass
vg_generate              optional, where an answer in words is wanted
vg_postprocess           per picture, folded over the post-processors in the order the user named
vg_edit                  on demand, one grounding and its picture
```

Core calls them through `vg_engine.core.contract.hooks` alone, which checks every answer.
"""

from __future__ import annotations

from collections.abc import Sequence

import pluggy

from vg_engine.core.contract.inputs import (
    AttentionRequest,
    AttentionRows,
    Expression,
    Generation,
    PreparedInputs,
)
from vg_engine.core.contract.model import LoadedModel, ModelSpec
from vg_engine.core.contract.picture import Picture
from vg_engine.core.contract.prompt import Prompt
from vg_engine.core.contract.results import Grounding
from vg_engine.core.contract.scene import Encoding, PostprocessContext, Scene
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
    def vg_open_scene(
        self, model: LoadedModel, picture: Picture, prompt: Prompt, depth: int
    ) -> Encoding | None:
        """Optional: encode a picture and the prompt's shared beginning once.

        When: a picture is opened for several expressions and the adapter declares
        `Capabilities.prefix_reuse`.

        Args: `depth` is the number of layers that will be read; no more need be encoded.

        Returns: an `Encoding`, which says how many bytes it holds and how to release them. It
        comes back as `Scene.encoding` in `vg_prepare_inputs`, in several passes and threads, and
        must not be changed by use. None declines this picture or prompt.

        Example:
            def vg_open_scene(self, model, picture, prompt, depth):
                cache = self.encode(model, picture, prompt, depth)
                return Encoding(prompt, depth, size_of(cache), cache)
        """

    @hookspec(firstresult=True)
    def vg_prepare_inputs(
        self,
        model: LoadedModel,
        scenes: Sequence[Scene],
        expressions: Sequence[Expression],
        prompt: Prompt,
    ) -> PreparedInputs | None:
        """Render prompts, process pictures, tokenise, pad.

        When: before each forward pass. `expressions[i].scene` indexes `scenes`. Where scenes carry
        an `encoding`, all of the pass do, and what it holds is not prepared again.

        Returns: tensors for one forward pass, and one `Query` per expression *in their order*.
        `Query.sequence` is explicit: several queries may share a packed sequence, if the tensors
        carry a mask that keeps them apart. `Query.rows` are the positions of the tokens that
        `prompt.query_row` names, found by character offsets in the rendered, expanded prompt.
        `PreparedInputs.sizes` are the pictures' (width, height), scene by scene.

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
    def vg_generate(
        self, model: LoadedModel, inputs: PreparedInputs, max_new_tokens: int
    ) -> Sequence[Generation] | None:
        """Optional: let the model answer in words, greedily.

        When: an explanation or a two-step grounding asks for it, and the adapter declares
        `Capabilities.generation`.

        Returns: one `Generation` per query: the text, the token ids, and each token's characters
        in the text.

        Example:
            return [Generation("a cup", (64, 3561), ((0, 1), (1, 5)))]
        """

    @hookspec
    def vg_postprocess(
        self, groundings: Sequence[Grounding], scene: Scene, context: PostprocessContext
    ) -> Sequence[Grounding] | None:
        """Refine, calibrate or add to the answers for one picture.

        When: once per picture with *all* its groundings, after their regions are read. The
        engine folds the post-processors in the order that the user named them: each sees what
        the one before returned. `scene.store` keeps what is costly to compute per picture.
        A post-processor may take options (`name:key=value` calls its class with `key=value`), and
        may have a method `close`, which the engine calls as it is closed.

        Returns: as many groundings, in the same order; None leaves them as they are.

        Example:
            return [replace(g, presence=self.calibrated(g.presence)) for g in groundings]
        """

    @hookspec(firstresult=True)
    def vg_edit(self, grounding: Grounding, picture: Picture) -> Picture | None:
        """Make a new picture of what was found.

        When: `vg_engine.edit` is called. An editor may take options, like a post-processor.

        Returns: the new picture, of the same size; None where there is nothing to edit.

        Example:
            pixels = picture.pixels.copy()
            pixels[grounding.mask] = 0
            return Picture(pixels, picture.source)
        """


def names() -> tuple[str, ...]:
    """List the names of all hooks, in the order of their definition."""
    return tuple(name for name in vars(Specs) if name.startswith("vg_"))
