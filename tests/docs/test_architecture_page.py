"""docs/architecture.md: the files that it names are there, and so are the entry-point groups."""

import re
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs/architecture.md").read_text(encoding="utf-8")


def test_every_file_that_it_names_is_there() -> None:
    named = set(re.findall(r"(?:core|plugins|model_adapters|registry|src|tests)/[\w./]*", PAGE))
    assert len(named) > 25
    assert [name for name in sorted(named) if not (ROOT / name).exists()] == []


def test_every_link_leads_to_a_page() -> None:
    links = re.findall(r"\]\(([\w-]+\.md)\)", PAGE)
    assert links
    assert [link for link in links if not (ROOT / "docs" / link).is_file()] == []


def test_every_group_of_plugins_has_a_place() -> None:
    with (ROOT / "pyproject.toml").open("rb") as file:
        groups = tomllib.load(file)["project"]["entry-points"]
    assert set(re.findall(r"`(vg_engine\.\w+)`", PAGE)) >= set(groups)
