"""These contracts need torchvision; where it cannot be imported they are skipped, and say so."""

from collections.abc import Iterable
from pathlib import Path

import pytest

try:
    import torchvision  # noqa: F401 - whether it can be is the question
# One that was built for another torch fails with errors of many kinds.
except Exception as error:  # noqa: BLE001 - see above
    WHY = f"needs torchvision, which cannot be imported here ({type(error).__name__})"
else:
    WHY = ""


class _Skipped(pytest.Module):
    def collect(self) -> Iterable[pytest.Item | pytest.Collector]:
        pytest.skip(WHY, allow_module_level=True)


def pytest_pycollect_makemodule(
    module_path: Path, parent: pytest.Collector
) -> pytest.Module | None:
    """Skip before a file's own imports fail."""
    made: pytest.Module | None = None
    if WHY and module_path.name.startswith("test_"):
        made = _Skipped.from_parent(parent, path=module_path)
    return made
