"""Rewrites tiny checkpoints into the layout of published repositories, as older versions wrote."""

import functools
import json
import re

import pytest
from building import fields
from families import rows_of
from safetensors.torch import load_file, save_file
from transformers import GemmaTokenizer

NAMES = {"image_token_id": "image_token_index", "video_token_id": "video_token_index"}


def published(folder, images, *, settings=None, renamed=(), config=None, add=None):
    """The same checkpoint, its files as a repository of 2023 to 2025 has them.

    Args:
        folder: as `save_tiny` wrote it; it is changed.
        images: preprocessor_config.json.
        settings: processor_config.json; None for the older ones that have none.
        renamed: (pattern, replacement) for the names of the weights, which get two shards.
        config: changes config.json in place; None writes it as transformers 4.39 did.
        add: changes the weights in place.
    """
    (folder / "processor_config.json").unlink()
    write(folder / "preprocessor_config.json", images)
    if settings is not None:
        write(folder / "processor_config.json", settings)
    template = (folder / "chat_template.jinja").read_text(encoding="utf-8")
    (folder / "chat_template.jinja").unlink()
    write(folder / "chat_template.json", {"chat_template": template})
    stated = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    (config or aged)(stated)
    write(folder / "config.json", stated)
    weights = load_file(folder / "model.safetensors")
    for old, new in renamed:
        weights = {re.sub(old, new, name): tensor for name, tensor in weights.items()}
    if add is not None:
        add(weights)
    (folder / "model.safetensors").unlink()
    shards, index = ("model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"), {}
    for number, shard in enumerate(shards):
        part = {name: weights[name] for name in sorted(weights)[number::2]}
        save_file(part, folder / shard, metadata={"format": "pt"})
        index |= dict.fromkeys(part, shard)
    write(folder / "model.safetensors.index.json", {"metadata": {}, "weight_map": index})
    return folder


def aged(config):
    """As transformers 4.39 wrote it: other names, and rotation in two settings."""
    for new, old in NAMES.items():
        if new in config:
            config[old] = config.pop(new)
    config.pop("image_seq_length", None)
    config |= {"ignore_index": -100, "transformers_version": "4.39.0.dev0"}
    for part in (config, config["text_config"], config["vision_config"]):
        if part.pop("dtype", None):
            part["torch_dtype"] = "float32"
    text = config["text_config"]
    text.pop("layer_types", None)
    rope = text.pop("rope_parameters")
    text |= {"rope_theta": rope["rope_theta"], "rope_scaling": None, "use_cache": True}


def write(path, data):
    path.write_text(json.dumps(data), encoding="utf-8")


@pytest.fixture(name="published")
def _published():
    return published


@pytest.fixture
def clip():
    """Settings of CLIP's image processor, as LLaVA's repositories state them."""
    return fields("""crop_size={"height":336,"width":336} do_center_crop=true do_convert_rgb=true
        do_normalize=true do_rescale=true do_resize=true image_processor_type=CLIPImageProcessor
        image_mean=[0.48145466,0.4578275,0.40821073] image_std=[0.26862954,0.26130258,0.27577711]
        processor_class=LlavaProcessor resample=3 rescale_factor=0.00392156862745098
        size={"shortest_edge":336}""")


@pytest.fixture
def fast():
    """Settings that torchvision-backed image processors of 2025 saved, mostly empty."""
    return fields("""crop_size=null device=null do_center_crop=null input_data_format=null
        data_format=channels_first default_to_square=true return_tensors=null""")


@pytest.fixture
def change_of_rows():
    """The largest change of any row that rewriting a checkpoint's files makes; it should be 0."""

    def change(adapter, folder, rewrite, form="bare"):
        before = rows_of(adapter, folder, form)
        rewrite(folder)
        return float((rows_of(adapter, folder, form) - before).abs().max())

    return change


@pytest.fixture
def same_rows(change_of_rows):
    """Refuses a change of rows by files that are rewritten as `published` does."""

    def check(adapter, folder, images, *, form="chat", **more):
        rewritten = functools.partial(published, images=images, **more)
        assert change_of_rows(adapter, folder, rewritten, form) < 1e-6

    return check


@pytest.fixture
def gemma_tokenizer():
    """Makes what `byte_tokenizer` does, of Gemma's own class: blanks are pieces, or begin them."""

    def made(special, *, extra_special_tokens, **settings):
        words = ("\u2581cup", "\u2581the")
        merges = [(word[:end], word[end]) for word in words for end in range(1, len(word))]
        pieces = ["<pad>", "<eos>", "<bos>", "<unk>", "<mask>"]
        pieces += [f"<0x{byte:02X}>" for byte in range(256)]
        pieces += ["\u2581", *map(chr, range(33, 127)), *(a + b for a, b in merges)]
        named = extra_special_tokens if isinstance(extra_special_tokens, dict) else None
        tokenizer = GemmaTokenizer(
            vocab={piece: number for number, piece in enumerate(dict.fromkeys(pieces))},
            merges=merges,
            add_bos_token=True,
            extra_special_tokens=named,
            **settings,
        )
        tokenizer.add_special_tokens({"additional_special_tokens": list(special)})
        return tokenizer

    return made
