"""Parts that several formats share: named fields of configs, copied unchanged; chat templates."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from vg_engine.core.errors import ModelError
from vg_engine.model_adapters.conversion.source import line

# The fields that define a decoder's computation; the others concern training or generation.
TEXT_FIELDS: tuple[str, ...] = (
    "attention_bias", "attention_dropout", "bos_token_id", "eos_token_id", "head_dim", "hidden_act",
    "hidden_size", "initializer_range", "intermediate_size", "max_position_embeddings",
    "max_window_layers", "mlp_bias", "num_attention_heads", "num_hidden_layers",
    "num_key_value_heads", "pad_token_id", "rms_norm_eps", "rope_parameters", "rope_scaling",
    "rope_theta", "sliding_window", "tie_word_embeddings", "use_sliding_window", "vocab_size",
)  # fmt: skip


def text_config(kind: Any, config: Mapping[str, Any], *, source: str, **changes: Any) -> Any:
    """Make a language model's native config.

    Args:
        kind: transformers' config class.
        config: the original's entries.
        source: its name, for messages.
        changes: entries that override the original's.

    Raises:
        ModelError: transformers refuses an entry.
    """
    fields = {name: config[name] for name in TEXT_FIELDS if config.get(name) is not None}
    # Old configs write -1 where there is no padding token.
    for name in ("pad_token_id", "bos_token_id", "eos_token_id"):
        value = fields.get(name)
        if isinstance(value, int) and value < 0:
            del fields[name]
    if "max_sequence_length" in config:  # the first LLaMA conversions' word for it
        fields.setdefault("max_position_embeddings", config["max_sequence_length"])
    return checked(kind, source=source, **(fields | changes))


def checked(kind: Any, *, source: str, **fields: Any) -> Any:
    """Make a config of a class.

    Raises:
        ModelError: transformers refuses an entry.
    """
    try:
        return kind(**fields)
    except Exception as error:  # what a wrong value raises is transformers' choice
        raise ModelError(
            f"config.json of {source} is no valid {kind.__name__} ({line(error)}); it may be "
            "damaged, or of a model that is not known here"
        ) from error


def chat_template(name: str, **stated: str) -> str:
    """Read a chat template of this folder; `stated` are variables that are set at its top."""
    text = Path(__file__).with_name(f"{name}.jinja").read_text(encoding="utf-8")
    return "".join(f"{{%- set {key} = {value!r} -%}}\n" for key, value in stated.items()) + text
