"""A folder in transformers' own form, with pickled weights only: the same in safetensors."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import transformers

from vg_engine.core.errors import InputError, ModelError
from vg_engine.model_adapters.conversion.protocol import Converter, Part, Plan, Request, Rule
from vg_engine.model_adapters.conversion.schedule import expected_of
from vg_engine.model_adapters.conversion.source import line

_KNOWN = "transformers/conversion_mapping.py"
_BUFFERS = (
    Rule(r".*\.rotary_emb\.inv_freq", (), _KNOWN),
    Rule(r".*\.embeddings\.position_ids", (), _KNOWN),
)
# Models of a tower, a projector and a language model, as transformers before 4.52 wrote them.
_OLD = (
    Rule(r"language_model\.lm_head\.(.+)", (r"lm_head.\1",), _KNOWN),
    Rule(r"language_model\.model\.(.+)", (r"model.language_model.\1",), _KNOWN),
    Rule(r"(vision_tower|multi_modal_projector)\.(.+)", (r"model.\1.\2",), _KNOWN),
    Rule(r"image_newline", ("model.image_newline",), _KNOWN),
)
_FLAT_TOWER = Rule(
    r"(?:model\.)?vision_tower\.vision_model\.(.+)", (r"model.vision_tower.\1",), _KNOWN
)
_SAME = Rule(r"(.+)", (r"\1",), _KNOWN)
_BESIDE = (".json", ".jinja", ".model", ".txt", ".tiktoken")


class Pickled(Converter):
    """`.bin` of a class that transformers has: nothing but the form of the files changes."""

    name: ClassVar[str] = "pickled"
    summary: ClassVar[str] = "any model in transformers' own form whose weights are .bin"
    gives_way: ClassVar[bool] = True

    def claims(self, config: Mapping[str, Any]) -> bool:
        """The architecture is a class of transformers, for this very model type."""
        found = _model_class(config)
        kind = getattr(getattr(found, "config_class", None), "model_type", None)
        return kind is not None and kind == config.get("model_type")

    def plan(self, request: Request) -> Plan:
        """Rename as transformers itself does when it loads."""
        source = request.source
        if any(entry.file.endswith(".safetensors") for entry in source.entries.values()):
            raise InputError(
                f"{source.folder} is in transformers' form and holds safetensors: it needs no "
                "conversion; use it as it is"
            )
        model_class = _model_class(source.config)
        try:
            config = model_class.config_class.from_dict(dict(source.config))
        except Exception as error:  # what a wrong value raises is transformers' choice
            raise ModelError(f"{source.folder}/config.json is refused ({line(error)})") from error
        names = expected_of(Plan(config, model_class, ()))
        rules: tuple[Rule, ...] = _BUFFERS
        if any(name.startswith("model.language_model.") for name in names):
            flat = not any(name.startswith("model.vision_tower.vision_model.") for name in names)
            rules += ((_FLAT_TOWER,) if flat else ()) + _OLD
        return Plan(
            config=config,
            model_class=model_class,
            parts=(Part(source, (*rules, _SAME)),),
            copied=tuple(sorted(p.name for p in source.folder.iterdir() if _beside(p))),
        )


def _beside(path: Path) -> bool:
    name = path.name
    return path.suffix in _BESIDE and name != "config.json" and not name.endswith(".index.json")


def _model_class(config: Mapping[str, Any]) -> Any:
    names = config.get("architectures")
    name = names[0] if isinstance(names, list) and names and isinstance(names[0], str) else ""
    if not name.isidentifier() or not name[0].isupper():
        return None
    return getattr(transformers, name, None)
