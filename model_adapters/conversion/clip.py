"""CLIP vision towers: inside an original checkpoint, or in a folder of their own."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from transformers import CLIPVisionConfig
from transformers.utils.constants import OPENAI_CLIP_MEAN, OPENAI_CLIP_STD

from vg_engine.core.errors import InputError, WeightsError
from vg_engine.model_adapters.conversion.configs import checked
from vg_engine.model_adapters.conversion.protocol import Part, Rule
from vg_engine.model_adapters.conversion.source import Checkpoint, read_json_beside

_SCRIPT = "transformers: models/llava/convert_llava_weights_to_hf.py"
_FOLDER = "transformers: models/clip/modeling_clip.py"
_PICTURES = "preprocessor_config.json"
_HEAD = 64  # every published CLIP tower has heads of 64
_FIELDS = (
    "attention_dropout", "hidden_act", "hidden_size", "image_size", "initializer_factor",
    "initializer_range", "intermediate_size", "layer_norm_eps", "num_attention_heads",
    "num_channels", "num_hidden_layers", "patch_size", "projection_dim",
)  # fmt: skip
# A tower that transformers 5 saved, alone or inside, has no prefix `vision_model.`.
_PARTS = r"(?:embeddings|encoder|pre_layrnorm|post_layernorm)\."
_INSIDE = rf"model\.vision_tower\.(?:vision_tower\.)?(?:vision_model\.|(?={_PARTS}))"

INSIDE_RULES = (
    Rule(r".*\.embeddings\.position_ids", (), _SCRIPT),
    Rule(_INSIDE + r"(.+)", (r"model.vision_tower.\1",), _SCRIPT),
)
FOLDER_RULES = (
    Rule(r"(?:.*\.)?embeddings\.position_ids", (), _FOLDER),
    Rule(rf"(?:vision_model\.|(?={_PARTS}))(.+)", (r"model.vision_tower.\1",), _FOLDER),
    Rule(r"text_model\..+|logit_scale|(?:visual|text)_projection\.weight", (), _FOLDER),
)


@dataclass(frozen=True)
class Tower:
    """A vision tower, from the checkpoint or from its own folder.

    Attributes:
        config: CLIPVisionConfig.
        inside: rules for its keys in the checkpoint itself.
        outside: its own folder with its rules, if it has one.
        pictures: entries of its preprocessor_config.json.
        statements: remarks for the user.
    """

    config: Any
    inside: tuple[Rule, ...] = ()
    outside: tuple[Part, ...] = ()
    pictures: Mapping[str, Any] | None = None
    statements: tuple[str, ...] = ()


def inside(source: Checkpoint) -> bool:
    """Check whether a checkpoint contains its tower."""
    return any(re.match(_INSIDE, key) for key in source.entries)


def is_plain(folder: Checkpoint) -> bool:
    """Check whether a folder is a whole CLIP model with its text side, not a fine-tuned tower."""
    return folder.config.get("model_type") == "clip" or "logit_scale" in folder.entries


def from_checkpoint(source: Checkpoint, *, named: str) -> Tower:
    """Make a tower whose shape is read from its weights.

    Raises:
        WeightsError: the weights are not those of a CLIP tower.
    """
    shapes = {
        match.group(1): entry.shape
        for key, entry in source.entries.items()
        if (match := re.fullmatch(_INSIDE + r"(.+)", key))
    }
    try:
        hidden, channels, patch, _ = shapes["embeddings.patch_embedding.weight"]
        cells = shapes["embeddings.position_embedding.weight"][0] - 1
        inner = shapes["encoder.layers.0.mlp.fc1.weight"][0]
    except (KeyError, ValueError, IndexError) as error:
        raise WeightsError(
            f"{source.folder}: its vision tower is no CLIP tower, or not complete"
        ) from error
    layers = {key.split(".")[2] for key in shapes if key.startswith("encoder.layers.")}
    config = checked(
        CLIPVisionConfig,
        source=str(source.folder),
        hidden_size=hidden,
        intermediate_size=inner,
        num_channels=channels,
        patch_size=patch,
        image_size=round(cells**0.5) * patch,
        num_hidden_layers=len(layers),
        num_attention_heads=max(1, hidden // _HEAD),
    )
    _check_name(config, named, str(source.folder))
    taken = (
        f"The checkpoint's own vision tower was taken: {config.num_attention_heads} heads of "
        f"{hidden // config.num_attention_heads} and quick_gelu, as in every CLIP of OpenAI."
    )
    return Tower(
        config,
        inside=INSIDE_RULES,
        pictures=read_json_beside(source.folder, _PICTURES),
        statements=(taken,),
    )


def from_folder(folder: Checkpoint, *, named: str) -> Tower:
    """Make a tower from its own folder: a CLIPVisionModel, or the vision side of a CLIPModel.

    Raises:
        InputError: the folder has another kind of model, or not the one that the checkpoint names.
    """
    kind = folder.config.get("model_type")
    if kind not in ("clip", "clip_vision_model"):
        raise InputError(
            f"{folder.folder} is a model of type {kind!r}, no CLIP vision tower; give {named}"
        )
    stated = folder.config.get("vision_config") if kind == "clip" else folder.config
    fields = {key: stated[key] for key in _FIELDS if isinstance(stated, Mapping) and key in stated}
    config = checked(CLIPVisionConfig, source=str(folder.folder), **fields)
    _check_name(config, named, str(folder.folder))
    return Tower(
        config,
        outside=(Part(folder, FOLDER_RULES),),
        pictures=read_json_beside(folder.folder, _PICTURES),
        statements=(f"The vision tower is {folder.folder.name}; the checkpoint names {named}.",),
    )


def picture_settings(tower: Tower) -> dict[str, Any]:
    """Return size, mean and deviation for the image processor."""
    stated = tower.pictures or {}
    side = int(tower.config.image_size)
    return {
        "size": {"shortest_edge": side},
        "crop_size": {"height": side, "width": side},
        "image_mean": list(stated.get("image_mean") or OPENAI_CLIP_MEAN),
        "image_std": list(stated.get("image_std") or OPENAI_CLIP_STD),
    }


def _check_name(config: Any, named: str, folder: str) -> None:
    """Check a tower against its name `...-patch14-336`: patch and picture size (else 224)."""
    found = re.search(r"patch(\d+)(?:-(\d+))?$", named)
    if found is None:
        return
    wanted = int(found.group(1)), int(found.group(2) or 224)
    if wanted != (config.patch_size, config.image_size):
        raise InputError(
            f"{folder} has patches of {config.patch_size} in pictures of {config.image_size}, and "
            f"the checkpoint was made with {named}; give that tower"
        )
