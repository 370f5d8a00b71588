"""A pytest plugin: what every contract measured, in one table at the end of a run.

Switch it on in the top `conftest.py`: `pytest_plugins = ["vg_engine.testing.summary"]`, or on the
command line: `-p vg_engine.testing.summary`. `--contract-table FILE` writes the table as JSON, with
the date and the versions that it was measured with; `--contract-probes all` paints every cell that
the kit knows.
"""

from __future__ import annotations

import datetime as dt
import json
import platform
from collections.abc import Iterable
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest

ADAPTER, PARITY, PAINT = "vg_adapter", "vg_parity", "vg_paint"
PROBES = "contract_probes"
PACKAGES = ("transformers", "torch", "torchvision")


def pytest_addoption(parser: pytest.Parser) -> None:
    """`--contract-table FILE` and `--contract-probes few|all`."""
    group = parser.getgroup("vg-engine")
    group.addoption("--contract-table", metavar="FILE", help="write what contracts measured")
    group.addoption(
        "--contract-probes",
        dest=PROBES,
        choices=("few", "all"),
        help="how many cells of every view contracts paint (default: as each class says)",
    )


def measured(reports: Iterable[Any]) -> dict[str, dict[str, Any]]:
    """Records of passed contracts: contract -> adapter, parity, paint."""
    table: dict[str, dict[str, Any]] = {}
    for report in reports:
        properties = dict(getattr(report, "user_properties", ()))
        if ADAPTER in properties and report.when == "call" and report.passed:
            contract = "::".join(report.nodeid.split("::")[:-1])
            line = table.setdefault(contract, {"adapter": properties[ADAPTER]})
            line.update({k: properties[k] for k in (PARITY, PAINT) if k in properties})
    return dict(sorted(table.items(), key=lambda item: (item[1]["adapter"], item[0])))


def versions() -> str:
    """Name what was measured with: the packages that are installed, and Python."""
    installed = {d.name: d.version for d in metadata.distributions() if d.name in PACKAGES}
    named = [f"{name} {installed[name]}" for name in PACKAGES if name in installed]
    return ", ".join([*named, f"Python {platform.python_version()}"])


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    """The table, and the file if one was asked for."""
    table = measured(terminalreporter.getreports("passed"))
    if not table:
        return
    write = terminalreporter.write_line
    terminalreporter.section("contracts")
    write(
        f"{'adapter':<20}{'rows':>7}{'largest error':>15}{'sharpest':>10}{'cells right':>15}  test"
    )
    for contract, line in table.items():
        parity, paint = line.get(PARITY, {}), line.get(PAINT, {})
        error, sharpest = parity.get("error", float("nan")), parity.get("sharpest", float("nan"))
        cells = f"{paint['right']}/{paint['planned']}" if paint else "-"
        rounds = f"  (float32 loses {parity['rounding']:.1e})" if "rounding" in parity else ""
        write(
            f"{line['adapter']:<20}{parity.get('rows', 0):>7}{error:>15.1e}{sharpest:>10.2f}"
            f"{cells:>15}  {contract.rpartition('::')[2]}{rounds}"
        )
    errors = [line[PARITY]["error"] for line in table.values() if PARITY in line]
    wrong = sum(line[PAINT]["wrong"] for line in table.values() if PAINT in line)
    adapters = len({line["adapter"] for line in table.values()})
    if errors:
        write(
            f"{adapters} adapters, {len(table)} contracts: largest error {max(errors):.1e}, "
            f"{wrong} wrong cells"
        )
    target = config.getoption("--contract-table")
    if target:
        date = str(dt.datetime.now(dt.UTC).date())
        found = {"date": date, "versions": versions(), "contracts": table}
        Path(target).write_text(json.dumps(found, indent=1), encoding="utf-8")
