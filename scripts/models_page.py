r"""Write `docs/models.md` from the installed adapters and from what their contracts measured.

    pytest -m "not slow" tests/model_adapters --contract-probes all --contract-table a.json
    PYTHONPATH=tests/stand_in pytest tests/torchvision_families --contract-probes all \
        --contract-table b.json
    python scripts/models_page.py --measured a.json b.json      # keep the figures, write the page
    python scripts/models_page.py                               # write the page anew
    python scripts/models_page.py --check                       # exit with 1 if it is out of date

The figures lie in `registry/contracts.yaml`, with the versions that they were measured with.
"""

from __future__ import annotations

import argparse
import datetime as dt
import json
import platform
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import transformers

from vg_engine.plugins import entrypoints
from vg_engine.registry import yaml_files
from vg_engine.registry.adapters import refused

ROOT = Path(__file__).resolve().parents[1]
PAGE, FIGURES = ROOT / "docs/models.md", ROOT / "registry/contracts.yaml"
PAPER = ROOT / "registry/paper_models.yaml"
HEAD = """\
# What the contracts of our adapters measured (tests/model_adapters, `AdapterContract`), on tiny
# sharpened random checkpoints in float32. Written by scripts/models_page.py; no figure by hand.
# error: largest difference from eager attention, any layer, head and chosen row; cells: painted
# cells whose token moved most, of those planned (the others were too small to paint), all that the
# kit knows (--contract-probes all): the tests of every day paint fewer.
"""
INTRO = """\
# Models

Made by `python scripts/models_page.py` from the adapters themselves; a test holds it to them.

**No family was ever seen on real weights here.** Each is proved on tiny random checkpoints of the
real classes, loaded from a folder as a real one is, with query and key projections scaled up so
that attention has peaks: captured rows against eager attention at every layer (allowed: 1e-5, or
where a processor rounds worse four times what float32 loses there, at most 5e-5), token by token
geometry by the paint probe (allowed: no wrong cell), prompts letter by letter, early
exit, padding on either side, threads. A model type `a+b` is an `a` with a vision tower of type `b`.
`vg-engine doctor MODEL` makes the same checks on your own
checkpoint in a minute or two; if you run it, tell us.

Every adapter leaves the model after the last layer that is needed (early exit), unless parts of it
are offloaded. None keeps a picture between expressions yet (prefix reuse). Image processors are
Pillow's, so torchvision is not needed, except where the table says so.
"""


def adapters() -> dict[str, Any]:
    """Our own adapters by name, imported."""
    entries = entrypoints.installed(entrypoints.ADAPTERS)
    return {e.name: e.load() for e in entries if e.distribution == "vg-engine"}


def model_types() -> dict[str, list[str]]:
    """Adapter class -> the model types that its entries name."""
    found: dict[str, list[str]] = {}
    for entry in entrypoints.installed(entrypoints.MODEL_TYPES):
        found.setdefault(entry.value, []).append(entry.name)
    return found


def keep(measured: Sequence[Path]) -> None:
    """Turn contract tables into `registry/contracts.yaml`."""
    table = {}
    for path in measured:
        table |= json.loads(path.read_text(encoding="utf-8"))
    lines: dict[str, list[dict[str, Any]]] = {}
    for contract, line in table.items():
        parity, paint = line["vg_parity"], line["vg_paint"]
        lines.setdefault(line["adapter"], []).append(
            {
                "contract": contract.rpartition("::")[2],
                "file": contract.partition("::")[0],
                "rows": parity["rows"],
                "error": float(f"{parity['error']:.1e}"),
                "sharpest": round(parity["sharpest"], 2),
                "cells": f"{paint['right']}/{paint['planned']}",
                "wrong": paint["wrong"],
            }
        )
    versions = f"transformers {transformers.__version__}, torch {torch.__version__}"
    figures = {
        "date": str(dt.datetime.now(dt.UTC).date()),
        "versions": f"{versions}, Python {platform.python_version()}, CPU, float32",
        "adapters": dict(sorted(lines.items())),
    }
    text = HEAD + yaml_files.dump(figures)
    FIGURES.write_text(text, encoding="utf-8")


def page() -> str:
    """The page as it should be."""
    figures = yaml_files.load(FIGURES)
    known, kinds = adapters(), model_types()
    shared = known["llava"].__mro__[1]
    parts = [INTRO]
    proved = [name for name in known if name in figures["adapters"]]
    lines = [line for found in figures["adapters"].values() for line in found]
    worst = max(line["error"] for line in lines)
    cells = [tuple(map(int, line["cells"].split("/"))) for line in lines]
    parts.append(
        f"{len(proved)} of {len(known)} adapters through the whole contract, {len(lines)} "
        f"contracts: largest error {worst:.1e}, {sum(right for right, _ in cells)} of "
        f"{sum(planned for _, planned in cells)} painted cells right, "
        f"{sum(line['wrong'] for line in lines)} wrong ({figures['versions']}, "
        f"{figures['date']}).\n"
    )
    parts.append("| `--adapter` | model types | a picture becomes | error | cells | real weights |")
    parts.append("| --- | --- | --- | --- | --- | --- |")
    for name, adapter in known.items():
        found = figures["adapters"].get(name, [])
        named = kinds.get(f"{adapter.__module__}:{adapter.__qualname__}", ())
        types = ", ".join(f"`{kind}`" for kind in named) or "any, by name alone"
        error = f"{max(line['error'] for line in found):.1e}" if found else "not run"
        right = sum(int(line["cells"].split("/")[0]) for line in found)
        planned = sum(int(line["cells"].split("/")[1]) for line in found)
        layout = adapter.layout
        if adapter.image_backend != "pil":
            layout += f" (needs {adapter.image_backend}; proved with a stand-in for it)"
        count = f"{right}/{planned}" if found else "not run"
        parts.append(f"| `{name}` | {types} | {layout} | {error} | {count} | never seen |")
    parts.append("\n## Bare prompts\n")
    parts.append(
        "The paper's form: a system sentence, the picture, the expression and a full stop. "
        "The chat form is the checkpoint's own template.\n"
    )
    parts.append("| `--adapter` | bare prompt | switches (`--config`, `options:`) |")
    parts.append("| --- | --- | --- |")
    for name, adapter in known.items():
        bare = adapter.bare.replace("\n", "\\n").replace("|", "\\|")
        options = ", ".join(f"`{option}`" for option in adapter.option_names)
        own = "" if adapter.system == shared.system else " (a system sentence of its own)"
        parts.append(f"| `{name}` | `{bare}`{own} | {options} |")
    parts.append("\n## The paper's ten\n")
    parts.append(
        "[Kang et al., CVPR 2025](https://arxiv.org/abs/2503.06287), from the files that people "
        "really have; [convert.md](convert.md) says what `convert` does.\n"
    )
    parts.append("| model | `--adapter` | how it comes to run | open until real weights are seen |")
    parts.append("| --- | --- | --- | --- |")
    columns = ("name", "adapter", "how", "open")
    for model in yaml_files.load(PAPER):
        name, adapter_name, how, unknown = (model[column] for column in columns)
        parts.append(f"| {name} | `{adapter_name}` | {how} | {unknown} |")
    parts.append("\n## Refused\n")
    parts.append("Their image tokens are no places, so attention to one points nowhere.\n")
    parts.append("| model type | why |")
    parts.append("| --- | --- |")
    parts += [f"| `{kind}` | {why} |" for kind, why in sorted(refused().items())]
    return "\n".join(parts) + "\n"


def main() -> int:
    """Write or check."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument(
        "--measured", type=Path, nargs="+", metavar="FILE", help="from --contract-table"
    )
    parser.add_argument("--check", action="store_true", help="write nothing")
    asked = parser.parse_args()
    if asked.measured:
        keep(asked.measured)
    wanted = page()
    if asked.check:
        return int(not PAGE.is_file() or PAGE.read_text(encoding="utf-8") != wanted)
    PAGE.parent.mkdir(exist_ok=True)
    PAGE.write_text(wanted, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
