"""`vg-engine plugins`: what is installed by kind, with the options, and what cannot be used."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from commands import call, refused

from vg_engine.core.contract.results import Grounding
from vg_engine.plugins import entrypoints, options

OURS = ("regions", "rules", "datasets")


class Wide:
    """Widen every box. Not the masks.

    Attributes:
        by: pixels on each side.
    """

    def __init__(self, *, by: int = 5, mild: bool = False) -> None: ...

    def vg_postprocess(self, groundings: Sequence[Grounding]) -> None: ...


@pytest.fixture(autouse=True)
def _kit(package: Path, kit: Any) -> None:
    kit.Wide = Wide
    file = package / "vg_cells-0.7.dist-info" / "entry_points.txt"
    points = "wide = vg_cells:Wide\n[vg_engine.regions]\nlost = vg_cells:Lost\n"
    file.write_text(f"{file.read_text()}{points}otsu = vg_cells:Wide\n")


def rows(*arguments: str, code: int = 2) -> list[dict[str, Any]]:
    return list(
        map(json.loads, call("plugins", *arguments, "--json", code=code).stdout.split("\n")[:-1])
    )


def test_every_kind_is_listed_with_packages_and_with_what_is_broken() -> None:
    listed = rows()
    assert list(dict.fromkeys(row["kind"] for row in listed)) == [
        "adapters", "postprocessors", "regions", "rules", "datasets", "converters"
    ]  # fmt: skip
    (wide,) = [row for row in listed if row["name"] == "wide"]
    assert wide == {
        "kind": "postprocessors", "name": "wide", "distribution": "vg-cells", "version": "0.7",
        "error": None,
    }  # fmt: skip
    told = {row["name"]: row["error"] for row in listed if row["error"]}
    assert set(told) == {"lost", "otsu"}
    assert "region 'lost' of vg-cells 0.7 is broken (vg_cells:Lost: AttributeError" in told["lost"]
    assert "uninstall one of them" in told["otsu"]
    lines = call("plugins", code=2).stdout.splitlines()
    assert "  vg-cells 0.7: sure, wide" in lines
    assert f"  not usable: {told['lost']}" in lines
    assert lines[-2:] == ["editors: vg_engine.edit(answer, picture, NAME)", "  none"]


def test_a_kind_is_listed_with_its_options() -> None:
    (wide,) = [row for row in rows("postprocessors", code=0) if row["name"] == "wide"]
    assert wide["summary"] == "Widen every box"
    assert wide["options"] == [
        {"name": "by", "type": "a whole number", "default": 5, "meaning": "pixels on each side"},
        {"name": "mild", "type": "yes or no", "default": False, "meaning": ""},
    ]
    lines = call("plugins", "postprocessors").stdout.splitlines()
    assert lines[-4:] == [
        "  wide (vg-cells 0.7)",
        "    Widen every box",
        "    by=5: a whole number; pixels on each side",
        "    mild=False: yes or no",
    ]
    assert call("plugins", "adapters").stdout == call("adapters").stdout
    assert refused("plugins", "region").endswith(
        "no kind of plugins 'region'; did you mean regions?"
    )


@pytest.mark.parametrize("columns", [50, 80, 120])
def test_words_wrap_on_a_terminal_and_are_not_cut(monkeypatch: Any, columns: int) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    for arguments, code in ((["plugins"], 2), (["plugins", "rules"], 0)):
        wide = call(*arguments, code=code).stdout
        with monkeypatch.context() as patched:
            patched.setenv("FORCE_COLOR", "1")  # as a terminal
            narrow = call(*arguments, code=code).stdout
        assert narrow.split() == wide.split()
        assert max(map(len, narrow.splitlines())) <= columns


@pytest.mark.parametrize("kind", OURS)
def test_every_option_of_ours_has_a_meaning(kind: str) -> None:
    for entry in entrypoints.installed(entrypoints.KINDS[kind]):
        if entry.distribution == "vg-engine":
            summary, known = options.describe(entry.load())
            assert summary
            assert all(one.meaning for one in known), f"{entry.name}: {known}"
