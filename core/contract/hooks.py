"""The typed façade over the hooks: core calls plugins through this and nothing else.

`pluggy` hands back `Any`; here every answer is checked for type, count and shape, and an error
names the plugin that answered wrongly, or says which adapter answered nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import pluggy
import torch

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
from vg_engine.core.errors import CaptureError, PluginError, VGError
from vg_engine.core.geometry import View

_T = TypeVar("_T")


@dataclass(frozen=True)
class Hooks:
    """Calls into one adapter and the post-processors of one engine.

    Attributes:
        manager: the engine's own plugin manager, with exactly one adapter registered.
        adapter: the adapter's registered name.
        postprocessors: registered names, in the order in which they are folded.
    """

    manager: pluggy.PluginManager
    adapter: str
    postprocessors: tuple[str, ...] = ()

    def load_model(self, spec: ModelSpec) -> LoadedModel:
        """`vg_load_model`, checked."""
        model = self._answer("vg_load_model", LoadedModel, spec=spec)
        if model.layers < 1 or model.heads < 1:
            raise self._wrong("vg_load_model", f"{model.layers} layers x {model.heads} heads")
        outside = [layer for layer in model.map_layers or () if not 0 <= layer < model.layers]
        if outside or model.map_layers == ():
            raise self._wrong("vg_load_model", f"map_layers {model.map_layers}")
        return model

    def open_scene(
        self, model: LoadedModel, picture: Picture, prompt: Prompt, depth: int
    ) -> Encoding | None:
        """`vg_open_scene`, checked; None where the adapter keeps nothing."""
        hook = "vg_open_scene"
        answer: object = self.manager.hook.vg_open_scene(
            model=model, picture=picture, prompt=prompt, depth=depth
        )
        if answer is None:
            return None
        if not isinstance(answer, Encoding):
            raise self._wrong(hook, f"{type(answer).__name__} instead of Encoding")
        if answer.depth < depth or answer.nbytes < 0:
            raise self._wrong(
                hook, f"{answer.depth} layers of {depth} wanted, {answer.nbytes} bytes"
            )
        return answer

    def prepare_inputs(
        self,
        model: LoadedModel,
        scenes: Sequence[Scene],
        expressions: Sequence[Expression],
        prompt: Prompt,
    ) -> PreparedInputs:
        """`vg_prepare_inputs`, checked: one query per expression, in order."""
        hook = "vg_prepare_inputs"
        inputs = self._answer(
            hook,
            PreparedInputs,
            model=model,
            scenes=scenes,
            expressions=expressions,
            prompt=prompt,
        )
        asked = [tuple(expression) for expression in expressions]
        answered = [(query.scene, query.expression) for query in inputs.queries]
        if answered != asked:
            raise self._wrong(hook, f"queries {answered}, asked for {asked}")
        if len(inputs.sizes) != len(scenes):
            raise self._wrong(hook, f"{len(inputs.sizes)} picture sizes for {len(scenes)}")
        return inputs

    def locate_image_tokens(
        self, model: LoadedModel, inputs: PreparedInputs
    ) -> tuple[tuple[View, ...], ...]:
        """`vg_locate_image_tokens`, checked: at least one view per query, no token twice."""
        hook = "vg_locate_image_tokens"
        answer = self._answers(hook, model=model, inputs=inputs)
        located = tuple(tuple(views) for views in answer)
        if len(located) != len(inputs.queries):
            raise self._wrong(hook, f"views for {len(located)} of {len(inputs.queries)} queries")
        for views in located:
            if not views or not all(isinstance(view, View) for view in views):
                raise self._wrong(hook, "a query without views")
            positions = np.concatenate([view.positions.ravel() for view in views])
            if len(np.unique(positions)) != len(positions):
                raise self._wrong(hook, "an image token that stands in two cells")
        return located

    def extract_attention(
        self, model: LoadedModel, inputs: PreparedInputs, request: AttentionRequest
    ) -> AttentionRows:
        """`vg_extract_attention`, checked: the wanted heads, one float32 tensor per query."""
        hook = "vg_extract_attention"
        rows = self._answer(hook, AttentionRows, model=model, inputs=inputs, request=request)
        if rows.heads != request.heads:
            raise self._wrong(hook, f"heads {rows.heads}, asked for {request.heads}")
        if len(rows.rows) != len(inputs.queries):
            raise self._wrong(hook, f"rows for {len(rows.rows)} of {len(inputs.queries)} queries")
        for query, tensor in zip(inputs.queries, rows.rows, strict=True):
            expected = (len(request.heads), len(query.rows))
            if tuple(tensor.shape[:2]) != expected or tensor.ndim != 3:
                raise self._wrong(hook, f"rows of shape {tuple(tensor.shape)} for {expected}")
            if tensor.dtype != torch.float32:
                raise self._wrong(hook, f"rows in {tensor.dtype} instead of float32")
            if not bool(torch.isfinite(tensor).all()):
                raise CaptureError(
                    f"adapter {self.adapter!r}: attention rows of {query.expression!r} are not "
                    "finite; its weights are broken, or it needs --dtype float32 or bfloat16"
                )
        return rows

    def generate(
        self, model: LoadedModel, inputs: PreparedInputs, max_new_tokens: int
    ) -> tuple[Generation, ...]:
        """`vg_generate`, checked: one `Generation` per query."""
        hook = "vg_generate"
        made = self._answers(hook, model=model, inputs=inputs, max_new_tokens=max_new_tokens)
        if len(made) != len(inputs.queries):
            raise self._wrong(hook, f"{len(made)} answers for {len(inputs.queries)} queries")
        if not all(isinstance(one, Generation) for one in made):
            raise self._wrong(hook, "something else than Generation")
        return tuple(made)

    def postprocess(
        self, groundings: Sequence[Grounding], scene: Scene, context: PostprocessContext
    ) -> tuple[Grounding, ...]:
        """`vg_postprocess`, folded over the post-processors in their order.

        pluggy shows every implementation the *original* argument, so the fold happens here.
        """
        hook = "vg_postprocess"
        current = tuple(groundings)
        for name in self.postprocessors:
            plugin = self.manager.get_plugin(name)
            who = f"post-processor {name!r} ({type(plugin).__name__}): {hook}"
            others = [p for n, p in self.manager.list_name_plugin() if n != name and p is not None]
            caller = self.manager.subset_hook_caller(hook, others)
            try:
                answers = caller(groundings=current, scene=scene, context=context)
                made = [tuple(answer) for answer in answers if answer is not None]
            except (VGError, torch.OutOfMemoryError):
                raise
            except Exception as error:
                cause = " ".join(str(error).split())
                raise PluginError(
                    f"{who} raised {type(error).__name__}: {cause}; its package has to be fixed, "
                    "or leave it out"
                ) from error
            for refined in made:
                if len(refined) != len(current) or not all(
                    isinstance(grounding, Grounding) for grounding in refined
                ):
                    raise PluginError(
                        f"{who} returned {len(refined)} answers for {len(current)} groundings"
                    )
                current = refined
        return current

    def close(self) -> None:
        """Close the post-processors that can be closed."""
        for name in self.postprocessors:
            close = getattr(self.manager.get_plugin(name), "close", None)
            if callable(close):
                close()

    def _answer(self, hook: str, kind: type[_T], **arguments: object) -> _T:
        answer: object = getattr(self.manager.hook, hook)(**arguments)
        if answer is None:
            raise PluginError(f"adapter {self.adapter!r} answered nothing to {hook}")
        if not isinstance(answer, kind):
            raise self._wrong(hook, f"{type(answer).__name__} instead of {kind.__name__}")
        return answer

    def _answers(self, hook: str, **arguments: object) -> Sequence[Any]:
        """An answer that is one item per query."""
        answer = self._answer(hook, object, **arguments)
        if not isinstance(answer, Sequence):
            raise self._wrong(hook, f"{type(answer).__name__} instead of a sequence")
        return answer

    def _wrong(self, hook: str, what: str) -> PluginError:
        return PluginError(
            f"adapter {self.adapter!r}: {hook} returned {what}; "
            "its package has to be fixed (vg-engine adapters names it)"
        )


@dataclass(frozen=True)
class EditHook:
    """Calls into one editor.

    Attributes:
        manager: a plugin manager with that editor alone.
        editor: its registered name.
    """

    manager: pluggy.PluginManager
    editor: str

    def edit(self, grounding: Grounding, picture: Picture) -> Picture:
        """`vg_edit`, checked: a picture of the same size; the same one where nothing was edited."""
        answer: object = self.manager.hook.vg_edit(grounding=grounding, picture=picture)
        if answer is None:
            return picture
        if not isinstance(answer, Picture) or answer.size != picture.size:
            got = answer.size if isinstance(answer, Picture) else type(answer).__name__
            raise PluginError(
                f"editor {self.editor!r}: vg_edit returned {got} instead of a Picture of "
                f"{picture.size}"
            )
        return answer
