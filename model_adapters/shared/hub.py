"""Models on the hub: asked for once and briefly, and taken from its cache where it cannot be had.

transformers asks for each file by itself, five times over: a minute and more where no hub answers.
"""

from __future__ import annotations

import logging
from pathlib import Path

from vg_engine.core.errors import ModelNotFoundError

_CONFIG = "config.json"
_REFUSED = (401, 403, 404)
_LOG = logging.getLogger("vg_engine")


def find(name: str, revision: str | None) -> tuple[Path, bool]:
    """Find the snapshot of a model, which holds its config at least.

    Args:
        name: hub id.
        revision: of it; None = the newest.

    Returns:
        The snapshot's folder, named by its commit, and whether it is all there is to read: the
        hub cannot be asked for the other files.

    Raises:
        ModelNotFoundError: the hub has no such model or does not hand it out, or it cannot be
            reached and its cache does not hold the model.
    """
    import huggingface_hub as hub  # noqa: PLC0415 - slow, for hub ids alone

    try:
        # `hf_hub_download` would repeat this question, with pauses, until a minute is over.
        hub.get_hf_file_metadata(
            hub.hf_hub_url(name, _CONFIG, revision=revision),
            timeout=hub.constants.HF_HUB_ETAG_TIMEOUT,
        )
        return Path(hub.hf_hub_download(name, _CONFIG, revision=revision)).parent, False
    except Exception as error:
        why, advice = _explained(revision, error)
        cached = hub.try_to_load_from_cache(name, _CONFIG, revision=revision)
        if not isinstance(cached, str):
            raise ModelNotFoundError(f"no folder {name!r}, and {why}; {advice}") from error
        if not isinstance(error, hub.errors.OfflineModeIsEnabled):  # else the user said so
            _LOG.warning("%s; the cached copy of %s is used", why, name)
        return Path(cached).parent, True


def _explained(revision: str | None, error: Exception) -> tuple[str, str]:
    """Say why a model cannot be had, and what to do."""
    from huggingface_hub import constants, errors  # noqa: PLC0415 - as above

    where, copy = f"the hub ({constants.ENDPOINT})", "give the folder of a downloaded copy"
    log_in = "log in: hf auth login"
    absent = f"{where} has no such model", f"check its name (if it is private, {log_in})"
    cached = "the hub's cache, which alone is read while HF_HUB_OFFLINE is set, has no such model"
    known = {  # a gated model is one that is not found, too: the first that fits counts
        errors.OfflineModeIsEnabled: (cached, f"unset it, or {copy}"),
        errors.GatedRepoError: (
            f"{where} gives it on request only",
            f"ask on the model's page, then {log_in}",
        ),
        errors.RevisionNotFoundError: (
            f"{where} has no revision {revision!r} of it",
            "look at the model's page",
        ),
        errors.EntryNotFoundError: (
            f"{where} has no {_CONFIG} of it",
            "name a model in Hugging Face's format",
        ),
        errors.RepositoryNotFoundError: absent,
    }
    found = next((words for kind, words in known.items() if isinstance(error, kind)), None)
    if found is not None:
        return found
    if getattr(getattr(error, "response", None), "status_code", None) in _REFUSED:
        return absent
    if "Timeout" in type(error).__name__:
        why = f"{where} gave no answer in {constants.HF_HUB_ETAG_TIMEOUT} seconds"
        return why, f"go online, or {copy} (HF_HUB_ETAG_TIMEOUT=60 waits longer)"
    cause = " ".join(str(error).split()).partition(" For more information")[0]
    return f"{where} cannot be reached ({cause})", f"go online, or {copy}"
