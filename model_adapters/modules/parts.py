"""Steps of transformers that our models share; it has no types for them."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from transformers import AutoModel


def built(config: Any) -> Any:
    """The transformers model of a config, without a head."""
    maker: Any = AutoModel
    return maker.from_config(config)


def finish(module: Any) -> None:
    """Make, tie and check the weights; transformers wants this called last in `__init__`."""
    module.post_init()


@contextmanager
def unregistered() -> Iterator[None]:
    """Without transformers' warning that it does not know a config's model type.

    It comes from looking for a tokenizer, which does not depend on the type.
    """
    logger = logging.getLogger("transformers.configuration_utils")
    logger.addFilter(_no_word_of_types)
    try:
        yield
    finally:
        logger.removeFilter(_no_word_of_types)


def _no_word_of_types(record: logging.LogRecord) -> bool:
    return "You are using a model of type" not in record.getMessage()
