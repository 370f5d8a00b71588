"""From the maps of a query to its grounding: heads chosen, maps read, answers refined."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from vg_engine.core.contract.hooks import Hooks
from vg_engine.core.contract.model import LoadedModel
from vg_engine.core.contract.picture import Picture
from vg_engine.core.contract.results import Grounding, HeadMaps
from vg_engine.core.contract.scene import PostprocessContext
from vg_engine.core.engine.kept_picture import KeptPicture
from vg_engine.core.engine.scheduler import Observed, Request, split_on_error
from vg_engine.core.engine.settings import Settings
from vg_engine.core.errors import InputError, VGError
from vg_engine.core.heads import Head, HeadSet
from vg_engine.core.selection.per_picture import per_picture_heads

AUTO_NOTE = "heads were selected on this picture alone (auto)"


@dataclass(frozen=True, eq=False)
class Reader:
    """Reads answers as one engine does.

    Attributes:
        hooks: for the post-processors.
        model: loaded.
        settings: how maps are read.
        head_set: the fixed heads; None selects heads on each picture.
        stamp: provenance of every answer.
        notes: added to every answer.
    """

    hooks: Hooks
    model: LoadedModel
    settings: Settings
    head_set: HeadSet | None
    stamp: Mapping[str, Any]
    notes: tuple[str, ...] = ()

    @property
    def heads(self) -> tuple[Head, ...]:
        """The heads whose maps an answer needs: the fixed ones, or all candidates."""
        return self.head_set.heads if self.head_set else self.model.candidate_heads

    def choose(self, maps: HeadMaps) -> HeadMaps:
        """Keep the maps of the heads that answer (`Engine.choose`)."""
        candidates = maps.of(self.heads)
        if self.head_set is not None:
            return candidates
        return candidates.of(per_picture_heads(candidates, k=self.settings.k))

    def read(self, maps: HeadMaps, picture: Picture) -> Grounding:
        """Combine all the given maps and read the answer.

        Raises:
            InputError: the maps are of a picture of another size.
        """
        picture.check_size(maps.size or picture.size, "read")
        stamp = dict(self.stamp)
        if self.head_set is None or maps.heads != self.head_set.heads:
            stamp |= {"head_set": "given", "head_rule": "given"}
        return self._read(maps, picture, stamp)

    def answer(self, request: Request, outcome: Observed | VGError) -> Grounding | VGError:
        """Read the answer to a request; an error stays one."""
        if isinstance(outcome, VGError):
            return outcome
        began = time.perf_counter()
        answer = self._read(self.choose(outcome.maps), request.picture.picture, self.stamp)
        notes = answer.notes if self.head_set else (*answer.notes, AUTO_NOTE)
        timings = {**outcome.timings, "read": time.perf_counter() - began}
        return replace(answer, notes=notes, timings=timings)

    def refine(self, kept: KeptPicture, groundings: Sequence[Grounding]) -> tuple[Grounding, ...]:
        """Fold the post-processors over all groundings of one picture.

        Raises:
            InputError: a grounding is about a picture of another size.
        """
        if isinstance(groundings, Grounding):
            raise InputError("refine takes all answers about a picture: a list of groundings")
        for one in groundings:
            kept.picture.check_size(one.size, "refine")
        if not (self.hooks.postprocessors and groundings):
            return tuple(groundings)
        context = PostprocessContext(self.model.device, self.stamp)
        return self.hooks.postprocess(groundings, kept.scene(), context)

    def refined(
        self, kept: KeptPicture | None, answers: Iterable[Grounding | VGError]
    ) -> Iterator[Grounding | VGError]:
        """Refine the groundings among answers about one picture; errors keep their places.

        What a post-processor fails on gets its error; the others are refined without it.
        """
        if not self.hooks.postprocessors or kept is None:
            yield from answers
            return
        group = list(answers)
        good = [answer for answer in group if isinstance(answer, Grounding)]
        better = self._refined(kept, good)
        for answer in group:
            yield answer if isinstance(answer, VGError) else next(better)

    def _refined(
        self, kept: KeptPicture, answers: Sequence[Grounding]
    ) -> Iterator[Grounding | VGError]:
        for some, found in split_on_error(partial(self.refine, kept), answers):
            yield from [found] * len(some) if isinstance(found, VGError) else found

    def _read(self, maps: HeadMaps, picture: Picture, stamp: Mapping[str, Any]) -> Grounding:
        how = self.settings.read_out
        combined = how.combined(maps, picture.size)
        instances = how.instances(combined, picture.size)
        return Grounding(
            expression=maps.expression,
            size=picture.size,
            instances=instances,
            soft_map=combined,
            presence=instances[0].score if instances else 0.0,
            heads=maps.heads,
            notes=(*maps.notes, *picture.notes, *self.notes),
            provenance=stamp,
        )


def provenance(
    hooks: Hooks, model: LoadedModel, settings: Settings, head_set: HeadSet | None
) -> dict[str, Any]:
    """Say where an engine's answers come from: model, adapter, heads, prompt, region."""
    return {
        "model": model.name,
        "revision": model.revision,
        "adapter": hooks.adapter,
        "dtype": str(model.dtype).removeprefix("torch."),
        "device": model.device.type,
        "head_set": head_set.name if head_set else "auto",
        "head_rule": head_set.rule if head_set else "auto",
        "prompt": settings.prompt.form,
        "template": settings.prompt.template,
        "query_row": settings.prompt.query_row,
        "region": settings.region_name,
        "sigma": settings.sigma,
        "kernel": settings.kernel,
        "postprocess": list(hooks.postprocessors),
    }
