"""Loading of Hugging Face checkpoints: from a folder or by hub id, safetensors only.

Every mistake of a user ends in one line that says what to do.
"""

from __future__ import annotations

import importlib.util
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import constants, try_to_load_from_cache
from safetensors import SafetensorError
from transformers import AutoConfig, PreTrainedConfig, PreTrainedModel

from vg_engine.core.contract.model import ModelSpec
from vg_engine.core.errors import InputError, ModelError, ModelNotFoundError, WeightsError
from vg_engine.model_adapters.shared import hub

_LISTED = 5
_CONVERSION_OFF = "DISABLE_SAFETENSORS_CONVERSION"
_DTYPES = {"float64", "float32", "bfloat16", "float16", "half", "float", "double"}
_HEAD = "lm_head.weight"
_INDEX = "model.safetensors.index.json"
_PEFT = "adapter_config.json"


def choose_device(name: str) -> torch.device:
    """Choose a device by name; `auto` takes CUDA, then MPS, then the CPU.

    Raises:
        InputError: this machine has no such device.
    """
    if name == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
        if device.type == "meta":
            raise RuntimeError("it holds no data")  # noqa: TRY301 - refused like the others
    except (RuntimeError, AssertionError) as error:
        raise InputError(
            f"device {name!r} cannot be used here; choose auto or {' or '.join(_devices())} "
            f"({first_line(error)})"
        ) from error
    return device


def _devices() -> list[str]:
    """List the devices of this machine."""
    cuda = [f"cuda:{number}" for number in range(torch.cuda.device_count())]
    return ["cpu", *cuda, *["mps"] * torch.backends.mps.is_available()]


def execution_device(module: torch.nn.Module) -> torch.device:
    """Return the device that a model's inputs go to, also where accelerate offloaded its weights.

    Raises:
        ModelError: the weights are on no device, and no hook brings them to one.
    """
    device: torch.device = getattr(module, "device")  # noqa: B009 - of transformers' models
    if device.type != "meta":
        return device
    for part in module.modules():
        found = getattr(getattr(part, "_hf_hook", None), "execution_device", None)
        if found is not None and torch.device(found).type != "meta":
            return torch.device(found)
    raise ModelError("the model holds no weights (all are on the device meta); load them first")


def choose_dtype(name: str, device: torch.device) -> torch.dtype | str:
    """Choose the dtype for `from_pretrained`; `auto` is float32 on the CPU, else the checkpoint's.

    Raises:
        InputError: there is no floating-point type of this name.
    """
    if name == "auto":
        return torch.float32 if device.type == "cpu" else "auto"
    dtype = getattr(torch, name, None) if name in _DTYPES else None
    if not isinstance(dtype, torch.dtype):
        raise InputError(f"dtype {name!r}: choose auto, float32, bfloat16 or float16")
    return dtype


def check_source(source: str) -> Path | None:
    """Check the folder that `source` names for a config and safetensors; None for a hub id.

    Raises:
        ModelNotFoundError: the folder does not exist, or has no config.
        WeightsError: safetensors are missing.
    """
    folder = Path(source).expanduser()
    if not folder.is_dir():
        if source.startswith(("/", ".", "~")) or source.count("/") != 1 or folder.exists():
            raise ModelNotFoundError(
                f"no model folder {source!r}; give a folder with config.json and safetensors, "
                "or a hub id such as llava-hf/llava-1.5-7b-hf"
            )
        return None
    if not (folder / "config.json").is_file():
        raise ModelNotFoundError(f"{source} holds no config.json, so it is no model folder")
    _check_weights(folder, source)
    return folder


def found(spec: ModelSpec) -> ModelSpec:
    """Look for the model of a hub id, unless that was done; its revision becomes a commit.

    Raises:
        VGError: see `check_source` and `hub.find`.
    """
    if spec.folder is not None or check_source(spec.source) is not None:
        return spec
    folder, offline = hub.find(spec.source, spec.revision)
    return replace(spec, revision=folder.name, folder=folder, offline=offline)


def files_of(spec: ModelSpec) -> tuple[Path | str, dict[str, Any]]:
    """Return where the files of `spec` are, and how transformers is to read them.

    Raises:
        VGError: see `check_source`.
    """
    shared = {"revision": spec.revision or "main", "trust_remote_code": spec.trust_remote_code}
    if spec.offline and spec.folder is not None:
        _check_weights(spec.folder, spec.source, none=_incomplete(spec))
        return spec.folder, shared
    return check_source(spec.source) or spec.source, shared


def _incomplete(spec: ModelSpec) -> str:
    return (
        f"the weights of {spec.source} are not in the cache (the download is incomplete); go "
        "online and try again"
    )


def _check_weights(folder: Path, source: str, none: str | None = None) -> None:
    """Check that the weights are complete and safetensors; `none` is said if there are none."""
    index = folder / _INDEX
    # transformers takes the whole file first: an index beside it is left over.
    if (folder / "model.safetensors").is_file():
        return
    if index.is_file():
        try:
            shards = set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values())
        except (OSError, ValueError, KeyError, AttributeError, TypeError) as error:
            raise WeightsError(f"{index} is broken; download the model again") from error
        # transformers would unpickle any other file that an index names.
        if not all(str(name).endswith(".safetensors") for name in shards):
            raise WeightsError(_only_pickles(source))
        missing = sorted(str(name) for name in shards if not (folder / str(name)).is_file())
        if missing:
            raise WeightsError(
                f"{source} lacks {_listed(missing)}, named by {_INDEX}; download the model again"
            )
        return
    if (folder / _PEFT).is_file():
        raise WeightsError(
            f"{source} holds a peft adapter alone ({_PEFT}); merge it into its base model "
            "(merge_and_unload) and save that"
        )
    if any(folder.glob("*.bin")):
        raise WeightsError(_only_pickles(source))
    raise WeightsError(
        none or f"{source} holds no weights (model.safetensors, or shards with {_INDEX})"
    )


def load_model(spec: ModelSpec, auto_class: Any) -> PreTrainedModel:
    """Load the model of `spec` on its device, in evaluation mode.

    Raises:
        ModelNotFoundError: there is no such folder or hub id.
        WeightsError: there are no safetensors, or their keys do not match.
        ModelError: transformers refuses the model for another reason.
    """
    source, shared = files_of(spec)
    device = choose_device(spec.device)
    dtype = choose_dtype(spec.dtype, device)
    try:
        with _unconverted():
            module, info = auto_class.from_pretrained(
                source,
                dtype=dtype,
                use_safetensors=True,
                ignore_mismatched_sizes=True,  # reported below, with the sizes
                output_loading_info=True,
                **shared,
                **_attention_of(source, shared),
            )
    except SafetensorError as error:
        raise WeightsError(
            f"{spec.source}: broken safetensors ({first_line(error)}); download the model again"
        ) from error
    # For a wrong config transformers raises nearly anything.
    except Exception as error:
        raise explained(spec, error) from error
    _tie_head(module, info)
    _check_keys(spec.source, info)
    loaded: PreTrainedModel = module.to(device).eval()
    return loaded


def _attention_of(source: Path | str, shared: Mapping[str, Any]) -> dict[str, Any]:
    """Ask for sdpa where the config asks for flash attention, which may not be installed.

    Capture puts its own attention function in place anyway.
    """
    stated: Mapping[str, Any] = {}
    with suppress(OSError, ValueError):  # loading the model reports them
        stated, _ = PreTrainedConfig.get_config_dict(source, **shared)
    if not _asks_for_flash(stated):
        return {}
    config: Any = AutoConfig.from_pretrained(source, **shared)
    config._attn_implementation = "sdpa"  # noqa: SLF001 - an argument alone does not win over it
    return {"config": config, "attn_implementation": "sdpa"}


def _asks_for_flash(stated: Mapping[str, Any]) -> bool:
    return any(
        ("attn_implementation" in name and "flash" in str(value))
        or (isinstance(value, Mapping) and _asks_for_flash(value))
        for name, value in stated.items()
    )


@contextmanager
def _unconverted() -> Iterator[None]:
    """Disable the service that converts a repository's pickles for transformers."""
    before = os.environ.get(_CONVERSION_OFF)
    os.environ[_CONVERSION_OFF] = "1"
    try:
        yield
    finally:
        if before is None:
            os.environ.pop(_CONVERSION_OFF, None)
        else:
            os.environ[_CONVERSION_OFF] = before


def _tie_head(module: Any, info: Mapping[str, Any]) -> None:
    """Tie the head to the embeddings if the text config alone says so and no head was saved.

    transformers saved models in this way before version 5, which in most families reads the whole
    model's config instead.
    """
    tied = getattr(module.config.get_text_config(), "tie_word_embeddings", False)
    if tied and set(info.get("missing_keys", ())) == {_HEAD}:
        module.get_output_embeddings().weight = module.get_input_embeddings().weight
        info["missing_keys"].clear()


def _check_keys(source: str, info: Mapping[str, Any]) -> None:
    problems = [
        f"{len(info[kind])} {kind.removesuffix('_keys')} ({_listed(sorted(map(str, info[kind])))})"
        for kind in ("missing_keys", "unexpected_keys")
        if info.get(kind)
    ]
    sizes = [
        f"{key}: {list(held)} in the file, {list(wanted)} by the config"
        for key, held, wanted in sorted(info.get("mismatched_keys", ()))
    ]
    if sizes:
        problems.append(f"{len(sizes)} of other sizes ({_listed(sizes)})")
    if problems:
        raise WeightsError(
            f"the weights of {source} do not fit its config: {'; '.join(problems)}; they belong "
            "to another architecture (vg-engine convert turns original checkpoints into this one)"
        )


def explained(spec: ModelSpec, error: Exception) -> ModelError | ModelNotFoundError:
    """Turn what transformers raises for a model into one line."""
    text = str(error)
    if "trust_remote_code" in text:
        return ModelError(
            f"{spec.source} brings its own code, which runs only with --trust-remote-code"
        )
    if "use_safetensors=True" in text or ("safetensors" in text and "pytorch_model" in text):
        pickled = try_to_load_from_cache(spec.source, "pytorch_model.bin", revision=spec.revision)
        if not isinstance(pickled, str) and not _online():
            return WeightsError(_incomplete(spec))
        return WeightsError(_only_pickles(spec.source))
    if isinstance(error, OSError):
        return ModelNotFoundError(
            f"{spec.source!r} is no folder, and could not be downloaded from the hub "
            f"({first_line(error)}); check its name, or download it and give the folder"
        )
    return ModelError(f"{spec.source} cannot be loaded: {first_line(error)}")


def _online() -> bool:
    return not constants.is_offline_mode()


def read_config(spec: ModelSpec) -> Any:
    """Read the config of `spec`.

    Raises:
        ModelNotFoundError: there is no config.
        ModelError: transformers does not know its type.
    """
    source, shared = files_of(spec)
    try:
        return AutoConfig.from_pretrained(source, **shared)
    except Exception as error:
        raise explained(spec, error) from error


def peft_statements(spec: ModelSpec) -> tuple[str, ...]:
    """Say whether a peft adapter beside the weights was applied; transformers does not."""
    source, _ = files_of(spec)
    if isinstance(source, Path):
        found = (source / _PEFT).is_file()
    else:
        found = isinstance(try_to_load_from_cache(source, _PEFT, revision=spec.revision), str)
    if not found:
        return ()
    if importlib.util.find_spec("peft") is None:
        return (f"Its peft adapter ({_PEFT}) is left out, since peft is not installed.",)
    return (f"Its peft adapter ({_PEFT}) was applied.",)


def check_in_memory(spec: ModelSpec, module: torch.nn.Module) -> None:
    """Refuse a device or dtype beside a model in memory, which is taken as it is.

    Raises:
        InputError: the model has another device or dtype.
    """
    device = execution_device(module)
    dtype: torch.dtype = getattr(module, "dtype")  # noqa: B009 - of transformers' models
    if spec.device != "auto" and choose_device(spec.device).type != device.type:
        raise InputError(f"the model in memory is on {device}; move it first: model.to(...)")
    if spec.dtype != "auto" and choose_dtype(spec.dtype, device) != dtype:
        raise InputError(f"the model in memory is in {dtype}; convert it first: model.to(...)")


def _only_pickles(source: str) -> str:
    return (
        f"{source} holds pickled weights (.bin) and no safetensors, and pickles are not read here; "
        f"turn them into safetensors once: vg-engine convert {source} NEW_FOLDER"
    )


def _listed(names: list[str]) -> str:
    more = len(names) - _LISTED
    return ", ".join(names[:_LISTED]) + (f" and {more} more" if more > 0 else "")


def first_line(error: BaseException) -> str:
    """Return the first line of an error, with its type where the text alone says nothing."""
    lines = str(error).strip().splitlines()
    # The text of a KeyError is the bare key.
    if not lines or isinstance(error, KeyError):
        return f"{type(error).__name__} {' '.join(lines)}".rstrip()
    return lines[0].strip()
