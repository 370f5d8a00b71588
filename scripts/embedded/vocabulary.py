"""The words that the embedded model knows, and its tokenizer and processor."""

from __future__ import annotations

import re
from typing import Any

from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
from transformers import LlavaProcessor, PreTrainedTokenizerFast
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

from vg_engine.plugins.datasets.scene_drawing import COLOURS, SHAPES
from vg_engine.plugins.datasets.scenes import SIZES

SPECIAL = ("<pad>", "<s>", "</s>", "<unk>", "<image>")
PAD, BOS, EOS, UNK, IMAGE = range(len(SPECIAL))

SYSTEM = (
    "A chat between a curious user and an assistant who looks at a picture "
    "and answers in few words."
)
ROWS, COLUMNS = ("top", "middle", "bottom"), ("left", "center", "right")
NUMBERS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight")
NAMES = ("ann", "ben", "carl", "dora", "emma", "finn", "gina", "hugo", "ivan", "june")
FILLERS = [
    "apple",
    "bread",
    "cloud",
    "door",
    "eagle",
    "forest",
    "garden",
    "house",
    "island",
    "jacket",
    "king",
    "lamp",
    "moon",
    "night",
    "ocean",
    "paper",
    "queen",
    "river",
    "stone",
    "table",
    "under",
    "village",
    "water",
    "yellowish",
    "zebra",
    "happy",
    "quick",
    "slow",
    "old",
    "new",
    "bright",
    "dark",
    "soft",
    "loud",
    "cold",
    "warm",
    "runs",
    "sleeps",
    "sings",
    "walks",
    "jumps",
    "reads",
    "writes",
    "waits",
]
_GRAMMAR = [
    "where",
    "is",
    "the",
    "what",
    "colour",
    "shape",
    "size",
    "there",
    "in",
    "at",
    "of",
    "has",
    "have",
    "many",
    "how",
    "object",
    "objects",
    "yes",
    "no",
    "repeat",
    "first",
    "last",
    "word",
    "words",
    "count",
    "find",
    "color",
    "which",
    "a",
    "an",
    "and",
    "it",
    "picture",
    "describe",
    "image",
    ".",
    ",",
    "?",
    ":",
    "!",
    "'",
    "-",
]

# Transformers' own default template of LLaVA-1.5, with the system sentence put in front.
CHAT_TEMPLATE = (
    "{% if messages[0]['role'] != 'system' %}" + SYSTEM + " {% endif %}"
    "{% for message in messages %}"
    "{% if message['role'] == 'system' %}"
    "{% if message['content'] is string %}{{ message['content'] }}"
    "{% else %}{{ message['content'][0]['text'] }}{% endif %}{{ ' ' }}"
    "{% else %}{{ message['role'].upper() + ': ' }}"
    "{% if message['content'] is string %}{{ message['content'] + ' ' }}{% else %}"
    "{% for content in message['content'] | selectattr('type', 'equalto', 'image') %}"
    "{{ '<image>\n' }}{% endfor %}"
    "{% for content in message['content'] | selectattr('type', 'equalto', 'text') %}"
    "{{ content['text'] + ' ' }}{% endfor %}"
    "{% endif %}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}{{ 'ASSISTANT:' }}{% endif %}"
)

_PIECES = re.compile(r"\w+|[^\w\s]")


def split_words(text: str) -> list[str]:
    """Lower-cased words and marks: what the tokenizer does, without its overhead."""
    return _PIECES.findall(text.lower())


def build_vocabulary() -> dict[str, int]:
    """Word to token id; special tokens first."""
    words = [*SPECIAL, *split_words(SYSTEM), "user", "assistant", *_GRAMMAR]
    words += [*COLOURS, *SHAPES, *SIZES, *ROWS, *COLUMNS, *NUMBERS, *NAMES, *FILLERS]
    return {word: index for index, word in enumerate(dict.fromkeys(words))}


def build_tokenizer() -> Any:
    """A word-level tokenizer in the fast format; it puts `<s>` in front, as LLaMA's does."""
    tokenizer = Tokenizer(models.WordLevel(build_vocabulary(), unk_token="<unk>"))
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A", pair="<s> $A $B", special_tokens=[("<s>", BOS)]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token="<s>",
        eos_token="</s>",
        unk_token="<unk>",
        pad_token="<pad>",
        additional_special_tokens=["<image>"],
        padding_side="left",
        clean_up_tokenization_spaces=False,
        model_max_length=1024,
    )


def build_processor(image_size: int, patch_size: int) -> Any:
    """LLaVA's own processor with the Pillow image processor, which needs no torchvision."""
    images = CLIPImageProcessorPil(
        size={"shortest_edge": image_size},
        crop_size={"height": image_size, "width": image_size},
    )
    return LlavaProcessor(
        image_processor=images,
        tokenizer=build_tokenizer(),
        patch_size=patch_size,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
        chat_template=CHAT_TEMPLATE,
    )
