"""Sources of models: a name of the registry, a folder, a hub id, or a model in memory."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from vg_engine.core.errors import InputError, ModelNotFoundError
from vg_engine.model_adapters.shared import hub
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
        folder: what the cache holds of a hub id, if its config was needed.
        offline: no other file can be had.
        names: what else the model is called.
    """

    source: str
    label: str
    entry: ModelEntry | None = None
    config: Mapping[str, Any] = field(default_factory=dict)

    folder: Path | None = None
    offline: bool = False

    def place(self, revision: str | None) -> dict[str, Any]:
        """Return the fields of a `ModelSpec` that say where the model is."""
        return {
            "source": self.source,
            "revision": self.folder.name if self.folder else revision,
            "folder": self.folder,
            "offline": self.offline,
        }

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
        InputError: a model came without its processor, or a revision beside a folder.
    """
    if model is not None:
        return _in_memory(source, model, processor, read=read)
    if processor is not None:
        raise InputError("a processor came without its model; hand over both, or neither")
    name = catalog.EMBEDDED if source is None else str(source)
    if not name.strip():
        raise ModelNotFoundError("the model's name is empty; name a folder or a hub id")
    entry = catalog.find_model(name)
    if entry is not None and entry.folder is not None:
        _check_unversioned(name, revision)
        return Source(str(entry.folder), entry.name, entry, _folder_config(entry.folder))
    if entry is not None:
        hub = next((i for i in entry.ids if i.lower() == name.lower()), entry.ids[0])
        return Source(hub, hub, entry)
    path = Path(name).expanduser()
    if os.path.isdir(path):  # noqa: PTH112 - unlike Path's, any name will do
        _check_unversioned(name, revision)
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
    return _on_hub(Source(name, name), revision) if read else Source(name, name)


def _on_hub(found: Source, revision: str | None) -> Source:
    with nearest_named(found):
        folder, offline = hub.find(found.source, revision)
    return replace(found, config=_folder_config(folder), folder=folder, offline=offline)


@contextmanager
def nearest_named(found: Source) -> Iterator[None]:
    """Add the nearest known names to the error that there is no such model."""
    try:
        yield
    except ModelNotFoundError as error:
        names = catalog.near(found.label)
        if found.entry is not None or not names.startswith("did"):
            raise
        raise ModelNotFoundError(f"{error}; {names}") from error


def _check_unversioned(name: str, revision: str | None) -> None:
    if revision is not None:
        raise InputError(
            f"{name} is a folder, which has no revisions; leave --revision {revision} out, or name "
            "a hub id"
        )


def _in_memory(source: str | Path | None, model: Any, processor: Any, *, read: bool) -> Source:
    if processor is None and not source:
        raise InputError(
            "a model in memory needs its processor: load(model=..., processor=...), "
            "or the folder or id to take one from: load(SOURCE, model=...)"
        )
    config = getattr(model, "config", None)
    if config is None and read:
        raise InputError(
            f"{type(model).__name__} has no config, so it is no transformers model; if it wraps "
            "one, hand that over (model.module), else name an adapter"
        )
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
