"""Parts that the commands of the studies share: default data sets, the command line, the date."""

from __future__ import annotations

import datetime as dt
import shlex
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from vg_engine.cli import console
from vg_engine.core.errors import InputError
from vg_engine.registry import catalog

if TYPE_CHECKING:
    from vg_engine.core.evaluation.samples import Fault

# The embedded model is calibrated on these scenes; its exam's are others.
CALIBRATION = "scenes?split=calibration&n=1000"
EXAM = "scenes?split=exam"
# It is ablated on neither of them: the exam is for results.
FRESH = "scenes?split=calibration&draw=1&n=600"


def is_embedded(model: str | None) -> bool:
    """Tell the embedded model, which knows its data, from any other."""
    entry = catalog.find_model(model) if model is not None else None
    return model is None or (entry is not None and entry.name == catalog.EMBEDDED)


def data_name(given: str | None, model: str | None, default: str, example: str) -> str:
    """The data set that was named; the embedded model has a default.

    Raises:
        InputError: another model, and no data set.
    """
    if given is None and not is_embedded(model):
        raise InputError(
            f"which sentences? name a data set with --data, as '{example}' or jsonl:samples.jsonl"
        )
    return default if given is None else given


def tell_faults(faults: Sequence[Fault], count: int, where: str) -> None:
    """Say how many records could not be used, why the first could not, and where all stand."""
    if faults:
        records = "1 record" if count == 1 else f"{count:,} records"
        first = f"{faults[0].id}: {faults[0].error}"
        console.say("note", f"{records} could not be used, the first: {first}{where}")


def provenance(**more: Any) -> dict[str, Any]:
    """Collect what a study records of its command: the date and the command line."""
    return {
        "remarks": {"date": dt.datetime.now(dt.UTC).date().isoformat()},
        "command": command_line(),
        **more,
    }


def command_line() -> str:
    """The line that was typed."""
    return shlex.join(["vg-engine", *sys.argv[1:]])
