"""The package of a new adapter: the template, with the adapter's names filled in."""

from __future__ import annotations

import keyword
import re
import tomllib
from pathlib import Path

from vg_engine.core.errors import InputError, OutputError
from vg_engine.plugins import entrypoints, files

TEMPLATE = Path(__file__).with_name("adapter_template")
PARTS = ("pyproject.toml", "README.md", "src/*/*.py", "tests/*.py")


def names_of(name: str) -> dict[str, str]:
    """Pair each name in the template with the one that an adapter of that name puts there.

    >>> list(names_of("zebra-vl").values())
    ['vg-engine-zebra-vl', 'vg_engine_zebra_vl', 'zebra-vl', 'zebra_vl', 'ZebraVl']
    """
    project = tomllib.loads((TEMPLATE / "pyproject.toml").read_text("utf-8"))["project"]
    points = project["entry-points"]
    ((theirs, place),) = points[entrypoints.ADAPTERS].items()
    (model_type,) = points[entrypoints.MODEL_TYPES]
    package, adapter = place.split(".")[0], place.split(":")[1]
    plain, module = name.replace("_", "-"), name.replace("-", "_")
    return {
        project["name"]: f"vg-engine-{plain}",
        package: f"vg_engine_{module}",
        theirs: plain,
        model_type: module,
        adapter.removesuffix("Adapter"): "".join(map(str.capitalize, plain.split("-"))),
    }


def new_adapter(name: str, folder: str | Path | None = None) -> Path:
    """Make the package of a new adapter, ready for `pip install -e` and for its test to run.

    Args:
        name: of the adapter, as `--adapter` takes it: lower-case letters, digits, single hyphens.
        folder: is made; by default `vg-engine-NAME`.

    Returns:
        The folder.

    Raises:
        InputError: the name cannot be used, or an installed adapter has it.
        OutputError: the folder exists or cannot be written.

    Example:
        >>> sorted(path.name for path in new_adapter("zebra").iterdir())
        ['README.md', 'pyproject.toml', 'src', 'tests']
    """
    texts = {path: path.read_text("utf-8") for part in PARTS for path in TEMPLATE.glob(part)}
    names = _checked(name, " ".join(texts.values()))
    target = Path(folder or next(iter(names.values())))
    if target.exists():
        raise OutputError(f"{target} exists; choose another folder with --out")
    of_template = re.compile("|".join(map(re.escape, names)))

    def filled(text: str) -> str:
        return of_template.sub(lambda found: names[found[0]], text)

    for path, text in texts.items():
        place = target / filled(path.relative_to(TEMPLATE).as_posix())
        files.write_whole(files.prepare_folder(place.parent) / place.name, filled(text).encode())
    return target


def _checked(name: str, template: str) -> dict[str, str]:
    """The names of an adapter, where they can be a module and a class and are not taken."""
    if not re.fullmatch(r"[a-z][a-z0-9]*([-_][a-z0-9]+)*", name):
        raise InputError(
            f"{name!r} is no name for an adapter; write lower-case letters, digits and single "
            f"hyphens, a letter first ({files.slug(name).lstrip('-0123456789') or 'zebra-vl'})"
        )
    for group in (entrypoints.ADAPTERS, entrypoints.MODEL_TYPES):
        for entry in entrypoints.installed(group):
            if entry.name.replace("_", "-") == name.replace("_", "-"):
                raise InputError(
                    f"{entry.package} has an adapter {entry.name!r}; choose another name"
                )
    words, names = set(re.findall(r"\w+", template)), names_of(name)
    *_, start = names.values()
    if keyword.iskeyword(start) or words & {start, f"{start}Adapter", f"{start}Config"}:
        raise InputError(
            f"{name!r} would name a class {start!r}, which means something else in its package; "
            f"choose another name ({name}-vl)"
        )
    return names
