"""Sources of models: a name of the registry, a folder, a hub id, or a model in memory."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from vg_engine.core.errors import InputError, ModelNotFoundError
from vg_engine.registry import catalog
from vg_engine.registry.schema import ModelEntry

_HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")
_PATH = re.compile(r"[./~\\]|[A-Za-z]:[\\/]|.*/.*/")


@dataclass(frozen=True, eq=False)
class Source:
    """The place of a model, and what the registry knows of it.

    Attributes:
        source: folder or hub id, as the adapter takes it.
        label: as the user knows it.
        entry: what the registry knows about it.
        config: its config.json; empty where it was not needed.
        names: what else the model is called.
    """

    source: str
    label: str
    entry: ModelEntry | None = None
    config: Mapping[str, Any] = field(default_factory=dict)

    @property
    def names(self) -> tuple[str, ...]:
        """The id that the config says the model came from."""
        origin = self.config.get("_name_or_path")
        return (origin,) if isinstance(origin, str) and origin else ()


def resolve(
    source: str | Path | None, model: Any, processor: Any, revision: str | None, *, read: bool
) -> Source:
    """Find the model that the user means.

    Args:
        source: name, folder or hub id; None for the embedded model, or only a label of `model`.
        model: one that is in memory, with its `processor`.
        processor: see `model`.
        revision: of a hub id.
        read: whether the config is needed to find an adapter.

    Raises:
        ModelNotFoundError: there is no such model (nearest names), or a folder holds none.
        InputError: a model came without its processor.
    """
    if model is not None:
        return _in_memory(source, model, processor)
    if processor is not None:
        raise InputError("a processor came without its model; hand over both, or neither")
    name = catalog.EMBEDDED if source is None else str(source)
    if not name.strip():
        raise ModelNotFoundError("the model's name is empty; name a folder or a hub id")
    entry = catalog.find_model(name)
    if entry is not None and entry.folder is not None:
        return Source(str(entry.folder), entry.name, entry, _folder_config(entry.folder))
    if entry is not None:
        hub = next((i for i in entry.ids if i.lower() == name.lower()), entry.ids[0])
        return Source(hub, hub, entry)
    path = Path(name).expanduser()
    if os.path.isdir(path):  # noqa: PTH112 - unlike Path's, any name will do
        return Source(str(path), name, None, _folder_config(path) if read else _any_config(path))
    if path.is_file():
        raise ModelNotFoundError(f"{name} is a file; name the folder that holds the model")
    if _PATH.match(name):
        raise ModelNotFoundError(f"no folder {name}; check the path (here is {Path.cwd()})")
    if not _HUB_ID.fullmatch(name) and read:
        raise ModelNotFoundError(
            f"no model {name!r} (name a folder, a hub id such as owner/name, or a known model); "
            f"{catalog.near(name)}"
        )
    return Source(name, name, None, _hub_config(name, revision) if read else {})


def _in_memory(source: str | Path | None, model: Any, processor: Any) -> Source:
    if processor is None and not source:
        raise InputError(
            "a model in memory needs its processor: load(model=..., processor=...), "
            "or the folder or id to take one from: load(SOURCE, model=...)"
        )
    config = getattr(model, "config", None)
    stated: Mapping[str, Any] = config.to_dict() if config is not None else {}
    label = str(source or getattr(config, "_name_or_path", "") or type(model).__name__)
    return Source(label, label, catalog.find_model(label), stated)


def _folder_config(folder: Path) -> Mapping[str, Any]:
    config = _any_config(folder)
    if not config:
        _explain_config(folder)
        raise ModelNotFoundError(
            f"{folder} holds no config.json that can be read; name the folder of a model in "
            "Hugging Face's format"
        )
    return config


def _explain_config(folder: Path) -> None:
    """Raise the error of a folder whose config.json is broken, or lacks for a known reason."""
    path = folder / "config.json"
    try:
        json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ModelNotFoundError(f"{path} is not JSON ({error}); correct it") from error
    except OSError as error:
        if (folder / "adapter_config.json").is_file():
            raise ModelNotFoundError(
                f"{folder} holds a peft adapter alone (adapter_config.json); merge it into its "
                "base model (merge_and_unload), save that and name its folder"
            ) from error


def _any_config(folder: Path) -> Mapping[str, Any]:
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return config if isinstance(config, dict) else {}


def _hub_config(name: str, revision: str | None) -> Mapping[str, Any]:
    from transformers.utils.hub import cached_file  # noqa: PLC0415 - slow, for hub ids alone

    try:
        path = cached_file(name, "config.json", revision=revision)
    except (OSError, ValueError) as error:
        cause = " ".join(str(error).split()).partition(". ")[0]
        raise ModelNotFoundError(
            f"no folder {name!r}, and no model of that id on the hub or in its cache ({cause}); "
            f"{catalog.near(name)}"
        ) from error
    return _folder_config(Path(str(path)).parent)
