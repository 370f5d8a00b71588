"""A model type that transformers does not know: LLaVA with another tower, under its own name.

Delete this file, `auto_class` in `adapter.py` and `load_plain` in the test where it knows yours.
"""

from transformers import LlavaConfig, LlavaForConditionalGeneration


class SquashedLlavaConfig(LlavaConfig):
    """Configuration of such a model, as its config.json holds it."""

    model_type = "squashed_llava"


class SquashedLlava(LlavaForConditionalGeneration):
    """LLaVA with a SigLIP tower, trained on pictures that were squashed to a square."""

    config_class = SquashedLlavaConfig
