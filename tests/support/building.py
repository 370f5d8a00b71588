"""Parts of tiny checkpoints: tokenizers, chat templates, and models that are made and saved."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import MappingProxyType
from typing import Any

import torch
import transformers

from vg_engine.model_adapters.shared.processors import without_video
from vg_engine.testing.tiny import byte_tokenizer, save_tiny, text_sizes
from vg_engine.testing.tiny_qwen import sharpen_norms

# Sizes of a tiny vision tower, by the names that Qwen's configs have, and by those of most.
QWEN_TOWER = MappingProxyType(
    {"depth": 2, "hidden_size": 32, "intermediate_size": 64, "num_heads": 4}
)
TOWER = MappingProxyType(
    {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4}
)


def vocabulary(special: str, named: Any = (), **settings: Any) -> Any:
    """A tokenizer with its control words: `pad=<pad> <turn>` says what each is for, where it is.

    Args:
        special: control words between blanks; none holds a blank or `=`.
        named: further ones, and what they are called if it is a dict.
        settings: of `byte_tokenizer`.
    """
    words, uses = [], {}
    for word in special.split():
        *for_what, token = word.split("=")
        words.append(token)
        uses |= {f"{use}_token": token for use in for_what}
    words += named.values() if isinstance(named, dict) else named
    more = {"extra_special_tokens": named} if named else {}
    return byte_tokenizer(words, **{"padding_side": "left", **uses, **more, **settings})


def fields(text: str) -> dict[str, Any]:
    """`a=1 b=[2,3] c=word` as a dict: values as JSON has them, else words."""
    pairs = (each.partition("=") for each in text.split())
    return {name: _value(value) for name, _, value in pairs}


def _value(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text


def text_part(tokenizer: Any, settings: str = "", *, layers: int = 4, **more: Any) -> Any:
    """Settings of a tiny decoder: its sizes, those that `fields` reads, and more."""
    return {**text_sizes(tokenizer, layers=layers), **fields(settings), **more}


def vision_part(settings: str = "", **more: Any) -> Any:
    """Settings of a tiny vision tower: its sizes, those that `fields` reads, and more."""
    return {**TOWER, **fields(settings), **more}


def square(side: int) -> dict[str, int]:
    return {"height": side, "width": side}


def siglip(side: int, patch: int = 14) -> Any:
    """A tower of SigLIP's."""
    sizes = {**TOWER, "image_size": side, "patch_size": patch}
    return transformers.SiglipVisionConfig(**sizes, vision_use_head=False)


def processor_of(processor_class: Any, *parts: Any, **settings: Any) -> Any:
    """A processor of pictures and text, whatever else its class knows."""
    return without_video(processor_class)(*parts, **settings)


@contextmanager
def edited(path: Path) -> Iterator[dict[str, Any]]:
    """Open a JSON file for changes, and write it back at the end of the block."""
    stated = json.loads(path.read_text(encoding="utf-8"))
    yield stated
    path.write_text(json.dumps(stated), encoding="utf-8")


def scale(module: torch.nn.Module, factor: float, *endings: str) -> None:
    """Scale the weights whose names end so: where norms undo what projections are scaled by."""
    for name, parameter in module.named_parameters():
        if name.endswith(endings):
            parameter.data.mul_(factor)


def save(
    model_class: Any,
    config: Any,
    processor: Any,
    folder: Any,
    *,
    norms=None,
    scaled=(),
    **sharp: Any,
) -> Any:
    """Write a tiny checkpoint with random weights, always the same.

    Args:
        norms: see `sharpen_norms`; where queries and keys are normed, projections sharpen nothing.
        scaled: what `scale` does to the decoder, for the same reason.
        sharp: see `save_tiny`.
    """
    torch.manual_seed(0)
    module = model_class(config)
    if norms is not None:
        sharpen_norms(module.get_decoder(), norms)
    if scaled:
        scale(module.get_decoder(), *scaled)
    return save_tiny(module, processor, folder, **sharp)


def chat(turn, picture, end, *, answer="", opening="", after=""):
    """A chat template: every turn opened and ended alike, its pictures and its text as they come.

    Args:
        turn: what opens a turn; ROLE stands for its role.
        picture: what stands for a picture.
        end: what ends a turn.
        answer: what opens the answer.
        opening: what opens the whole.
        after: what stands behind a text.
    """
    return (
        f"{_said(opening)}{{% for message in messages %}}{_said(turn)}"
        "{% for part in message['content'] %}{% if part['type'] == 'image' %}"
        f"{_said(picture)}{{% else %}}{{{{ part['text'] }}}}{_said(after)}{{% endif %}}"
        f"{{% endfor %}}{_said(end)}{{% endfor %}}"
        f"{{% if add_generation_prompt %}}{_said(answer)}{{% endif %}}"
    )


def _said(text):
    """Written as an expression, so that no newline behind a block is lost."""
    if "{" in text:
        return text
    parts = (f"{{{{ {part!r} }}}}" for part in text.split("ROLE"))
    return "{{ message['role'] }}".join(parts)


def plain(model_class):
    """`load_plain` of a contract, for a class that transformers' own factory does not know."""

    def load_plain(_, folder, attention):
        return model_class.from_pretrained(
            folder, attn_implementation=attention, dtype=torch.float32
        ).eval()

    return load_plain


def by_default(_, folder, attention):
    """`load_plain` with sdpa where there is one: asked for by name, it is asked for everywhere."""
    asked = {"attn_implementation": "eager"} if attention == "eager" else {}
    kind = transformers.AutoModelForImageTextToText
    return kind.from_pretrained(folder, **asked, dtype=torch.float32).eval()


def reading(model_class):
    """`load_plain` of an encoder: its attentions are put where the kit looks for them."""

    class Reading(model_class):
        def forward(self, **tensors):
            answer = super().forward(**tensors)
            answer.attentions = answer.encoder_attentions
            return answer

    return plain(Reading)


def keep_own_pixels(part, *, fresh=True):
    """Of a convolution's window only what lies in its own cell; `fresh` draws new weights."""
    mask = torch.zeros(part.weight.shape[-2:])
    # Steps of two pad outside the convolution, on the right and below; those in time all around.
    first = 1 if isinstance(part, torch.nn.Conv3d) else int(part.padding[-1])
    step = part.stride[-1]
    mask[first : first + step, first : first + step] = 1
    if fresh:
        torch.nn.init.normal_(part.weight)
        seen = part.in_channels * mask.sum() * part.weight[0, 0].numel() / mask.numel()
        mask /= seen**0.5
    part.weight.data *= mask


def even_out(module):
    """Give all taps of a kernel the same weight: random ones move a token's place by chance."""
    for part in module.modules():
        if isinstance(part, torch.nn.Conv2d) and part.kernel_size == (3, 3):
            part.weight.data[:] = part.weight.data.mean((-2, -1), keepdim=True)


def embed_codes(module):
    """Like codes get like embeddings: a neighbour's change of code then is a small one."""
    codebook = module.model.vqmodel.quantize.embedding.weight.data
    words = module.get_input_embeddings().weight.data
    for code, token in module.model.vocabulary_mapping.img2bpe.items():
        words[token] = 0
        words[token, : codebook.shape[1]] = codebook[code]
