"""Adapters with planted faults: what one of their steps answers is changed behind it."""

from dataclasses import replace
from types import MappingProxyType

from vg_engine.model_adapters.families.llava import LlavaAdapter


def moved(change, base=LlavaAdapter):
    """`change` gets the views of each query."""

    class Moved(base):
        def vg_locate_image_tokens(self, model, inputs):
            return [change(views) for views in super().vg_locate_image_tokens(model, inputs)]

    return Moved


def prepared(change, base=LlavaAdapter):
    """`change` gets the prepared inputs."""

    class Prepared(base):
        def vg_prepare_inputs(self, model, scenes, expressions, prompt):
            return change(super().vg_prepare_inputs(model, scenes, expressions, prompt))

    return Prepared


def extracted(change, base=LlavaAdapter):
    """`change` gets the rows of each query."""

    class Extracted(base):
        def vg_extract_attention(self, model, inputs, request):
            found = super().vg_extract_attention(model, inputs, request)
            return replace(found, rows=tuple(change(rows) for rows in found.rows))

    return Extracted


class Keeps(LlavaAdapter):
    """Gives no model back."""

    def vg_load_model(self, spec):
        return replace(super().vg_load_model(spec), close=lambda: None)


def transposed(views):
    return [replace(view, positions=view.positions.T) for view in views]


def with_mask(inputs, change):
    """Inputs whose attention mask is another."""
    mask = change(inputs.tensors["attention_mask"])
    return replace(inputs, tensors=MappingProxyType({**inputs.tensors, "attention_mask": mask}))


def with_rows(inputs, change):
    """Inputs whose queries ask for other rows: `change` gets each query."""
    queries = tuple(replace(query, rows=tuple(change(query))) for query in inputs.queries)
    return replace(inputs, queries=queries)
