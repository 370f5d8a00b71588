"""Work on checkpoints beside asking them: check one with the conformance kit, convert one."""

from __future__ import annotations

import platform
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vg_engine._version import __version__
from vg_engine.core.errors import PluginError
from vg_engine.engine_spec import EngineSpec
from vg_engine.plugins import entrypoints

if TYPE_CHECKING:
    from vg_engine.testing.doctor import Finding


@dataclass(frozen=True, eq=False)
class Checkup:
    """The findings of `doctor` about one checkpoint.

    Attributes:
        findings: one per check, in order.
        facts: model, adapter and versions, as a report to the adapter's authors needs them.
        prompts: a prompt of each form, as the model reads it.
    """

    findings: tuple[Finding, ...]
    facts: Mapping[str, str]
    prompts: Mapping[str, str]

    @property
    def failed(self) -> tuple[str, ...]:
        """The checks that failed."""
        return tuple(one.check for one in self.findings if one.status == "failed")

    @property
    def ok(self) -> bool:
        """True where no check failed."""
        return not self.failed

    def __repr__(self) -> str:
        lines = [f"  {one.status:<8}{one.check}: {one.description}" for one in self.findings]
        return "\n".join([f"Checkup of {self.facts['model']}, ok={self.ok}", *lines])


def doctor(
    model: str | Path | EngineSpec | None = None,
    *,
    adapter: str | None = None,
    options: Mapping[str, Any] | None = None,
    loaded: Callable[[tuple[str, ...]], None] = lambda _: None,
    found: Callable[[Finding], None] = lambda _: None,
) -> Checkup:
    """Check an adapter on a checkpoint: rows, cells, prompts, padding, threads.

    Args:
        model: as in `vg_engine.load`; a spec says device, precision and revision as well.
        adapter: instead of the one for the model's type.
        options: switches of the adapter.
        loaded: called with the model's statements, before the checks.
        found: called with each finding as it is made.

    Returns:
        All findings; `ok` says whether to trust the model's answers.

    Raises:
        VGError: the model cannot be loaded.

    Example:
        >>> doctor().ok
        True
    """
    from vg_engine.api import open_model  # noqa: PLC0415 - torch, for the work alone
    from vg_engine.testing import doctor as checks  # noqa: PLC0415 - the same
    from vg_engine.testing.harness import Harness  # noqa: PLC0415 - the same

    spec = EngineSpec.of(model)
    asked = adapter or spec.adapter
    name, made, hooks, ready = open_model(
        spec.model,
        adapter=asked,
        options={**spec.options, **(options or {})},
        revision=spec.revision,
        device=spec.device,
        dtype=spec.dtype,
        trust_remote_code=spec.trust_remote_code,
    )
    loaded(ready.statements)
    opened = Harness(hooks, ready)
    facts = _facts(name if asked is None else f"{name} (asked for)", made, ready)
    prompts = checks.rendered(opened)
    findings = []
    for finding in checks.examine(checks.Patient(opened)):
        findings.append(finding)
        found(finding)
    return Checkup(tuple(findings), facts, prompts)


def _package(made: Any) -> str:
    """Find who brings an adapter: by its class, for it may be offered for model types alone."""
    value = f"{type(made).__module__}:{type(made).__qualname__}"
    groups = (entrypoints.ADAPTERS, entrypoints.MODEL_TYPES)
    offers = (entry for group in groups for entry in entrypoints.installed(group))
    return next((entry.package for entry in offers if entry.value == value), value)


def _facts(adapter: str, made: Any, loaded: Any) -> dict[str, str]:
    """Collect what a report needs beside the findings."""
    import torch  # noqa: PLC0415 - slow
    import transformers  # noqa: PLC0415 - slow

    return {
        "model": str(loaded.name),
        "revision": str(loaded.revision or "-"),
        "model type": str(getattr(loaded.module.config, "model_type", "?")),
        "adapter": adapter,
        "package": _package(made),
        "shape": f"{loaded.layers} layers x {loaded.heads} heads",
        "precision": str(loaded.dtype).removeprefix("torch."),
        "device": str(loaded.device),
        "versions": f"vg-engine {__version__}, transformers {transformers.__version__}, "
        f"torch {torch.__version__}, Python {platform.python_version()}",
    }


def convert(
    source: str | Path,
    target: str | Path,
    *,
    vision_tower: str | Path | None = None,
    base: str | Path | None = None,
    progress: Callable[[str, int, int], None] = lambda _step, _done, _total: None,
    note: Callable[[str], None] = lambda _: None,
) -> dict[str, Any]:
    """Turn an original checkpoint into a folder that `vg_engine.load` takes.

    Nothing in the source is executed; pickled weights are read as weights alone.

    Args:
        source: folder of the original: LLaVA, ShareGPT4V, InternVL, Yi-VL, Mini-Gemini, or any
            `.bin` folder in transformers' own form.
        target: a new folder; it appears when all of it worked.
        vision_tower: folder of the tower of a checkpoint that holds none.
        base: folder of the model that delta weights belong to.
        progress: called with the step's name, the bytes done and the bytes in all.
        note: called with what the user should know of broken converter packages.

    Returns:
        The report, which stands in the target as `vg_engine_conversion.json`.

    Raises:
        VGError: the source cannot be converted, or the target cannot be written.
    """
    from vg_engine.model_adapters.conversion import pipeline  # noqa: PLC0415 - torch

    known = []
    for entry in entrypoints.installed(entrypoints.CONVERTERS):
        try:
            known.append(entry.load()())
        except PluginError as error:
            note(str(error))  # it may not be needed
    folders = pipeline.Folders(
        Path(source),
        Path(target),
        None if vision_tower is None else Path(vision_tower),
        None if base is None else Path(base),
    )
    return pipeline.convert(folders, known, tool=f"vg-engine {__version__}", progress=progress)
