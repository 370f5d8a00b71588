"""Every rule, one after the other."""

from typing import Any

import pytest

from vg_engine.core.selection import rules

EVERY = [
    rules.Paper(per_sample=3),
    rules.PaperSensitivity(per_sample=3),
    rules.Contrastive(per_sample=3),
    rules.Supervised(),
    rules.Sensitivity(),
    rules.Consensus(),
    rules.AttentionOnly(),
    rules.EntropyOnly(per_sample=3),
]


@pytest.fixture(params=EVERY, ids=lambda rule: type(rule).__name__)
def rule(request: pytest.FixtureRequest) -> Any:
    return request.param
