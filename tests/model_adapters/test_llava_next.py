"""LLaVA-NeXT, and its video form for pictures, with the towers and decoders that are in use."""

from functools import partial

import pytest
import transformers as hf
from building import chat, edited, fields, save, square, text_part, vision_part, vocabulary
from families import (
    RENAMED,
    VICUNA,
    ask,
    chatml,
    contract,
    image_tokens,
    loaded,
    opens,
    prompted,
    rows_of,
    views,
)

from vg_engine.core.contract.prompt import Prompt
from vg_engine.core.errors import WeightsError
from vg_engine.model_adapters.families.llava_next import LlavaNextAdapter
from vg_engine.model_adapters.families.llava_next_video import LlavaNextVideoAdapter
from vg_engine.testing import paint
from vg_engine.testing.tiny import LLAVA_CHAT

# The prompts of the model cards (looked up on copies): Vicuna's is LLaVA-1.5's.
MISTRAL_CHAT = (
    "{% for message in messages %}{% if message['role'] == 'system' %}"
    "{{ '<<SYS>>\n' + message['content'][0]['text'] + '\n<</SYS>>\n\n' }}{% else %}[INST] "
    "{% for content in message['content'] %}{% if content['type'] == 'image' %}<image>\n"
    "{% else %}{{ content['text'] }}{% endif %}{% endfor %} [/INST]{% endif %}{% endfor %}"
)
GRANITE_CHAT = chat("<|ROLE|>\n", "<image>\n", "", after="\n", answer="<|assistant|>\n")
CHATS = {"mistral": MISTRAL_CHAT, "granite": GRANITE_CHAT}
# Height and width of canvases, in tiles; the first five are LLaVA-1.6's.
POINTS = ((1, 2), (2, 1), (2, 2), (3, 1), (1, 3))
SEEN = vision_part("num_hidden_layers=3 patch_size=14")


def tiny_llava_next(folder, decoder, *, tile=56, layers=4):
    """With the CLIP tower of LLaVA-1.6, or SigLIP's and several of its layers as in Granite."""
    siglip = decoder == "granite"
    tokenizer = vocabulary("pad=<pad> bos=<s> eos=</s>", ["<image>"])
    points = [[rows * tile, cols * tile] for rows, cols in POINTS]
    images = hf.LlavaNextImageProcessorPil(
        size={"shortest_edge": tile}, crop_size=square(tile), image_grid_pinpoints=points
    )
    # Older files say nothing about patches: the adapter takes them from the config.
    processor = hf.LlavaNextProcessor(
        images, tokenizer, chat_template=CHATS.get(decoder, LLAVA_CHAT)
    )
    sizes = text_part(tokenizer, layers=layers)
    text = hf.LlamaConfig(**sizes)
    if decoder == "mistral":
        text = hf.MistralConfig(**sizes, sliding_window=None)
    if siglip:
        text = hf.GraniteConfig(**sizes, attention_multiplier=0.2, residual_multiplier=0.5)
    tower = hf.SiglipVisionConfig if siglip else hf.CLIPVisionConfig
    config_class = hf.LlavaNextConfig
    whole = hf.LlavaNextForConditionalGeneration
    if decoder == "video":
        config_class = hf.LlavaNextVideoConfig
        whole = hf.LlavaNextVideoForConditionalGeneration
    config = config_class(
        vision_config=tower(**SEEN, image_size=tile),
        text_config=text,
        image_grid_pinpoints=points,
        vision_feature_layer=[-3, -1] if siglip else -2,
        vision_feature_select_strategy="full" if siglip else "default",
        image_token_index=tokenizer.convert_tokens_to_ids("<image>"),
    )
    return save(whole, config, processor, folder)


BARE = prompted(f"{VICUNA} <image>\nthe cup.", form="bare")
TestVicuna = contract(
    LlavaNextAdapter,
    (BARE, prompted("USER: <image>\nthe cup. ASSISTANT:")),
    partial(tiny_llava_next, decoder="vicuna"),
    foreign=("num_additional_image_tokens", 0, (88, 87)),
)
TestMistral = contract(
    LlavaNextAdapter,
    (
        prompted(f"{VICUNA} <image>\nwhich cup?", "which cup?", form="bare"),
        prompted("[INST] <image>\nthe cup. [/INST]"),
        prompted("<<SYS>>\nSee.\n<</SYS>>\n\n[INST] <image>\nthe cup. [/INST]", system="See."),
    ),
    partial(tiny_llava_next, decoder="mistral"),
    pytestmark=pytest.mark.slow,
)


class TestVideo(TestVicuna):
    """Pictures only: of them, its processor makes what LLaVA-NeXT's makes."""

    adapter = LlavaNextVideoAdapter

    def build(self, folder):
        tiny_llava_next(folder, "video")


# A tile of 62 pixels has 4 whole patches, as 384 has 27: the rest is not seen.
TestGraniteVision = contract(
    LlavaNextAdapter,
    (BARE, prompted("<|user|>\n<image>\nthe cup.\n<|assistant|>\n")),
    partial(tiny_llava_next, decoder="granite", tile=62),
)
# Tiles of 336 pixels and patches of 14, as published; a small decoder.
real = loaded(LlavaNextAdapter, tiny_llava_next, "mistral", tile=336, layers=1)


def test_real_sizes(real):
    """A picture of 640 x 480: 672 x 504 pixels on 2 x 2 tiles, of 48 rows 36 are kept."""
    assert image_tokens(real, (640, 480)) == 24 * 24 + 36 * 49 == 2340
    found = views(real, (640, 480))
    assert [view.name for view in found] == ["thumbnail", "tiles"]
    assert [view.shape for view in found] == [(24, 24), (36, 48)]
    for view in found:
        assert view.extent == pytest.approx((0.0, 0.0, 640.0, 480.0))
    assert real.model.statements == ("A picture is shown whole, and again on up to 4 tiles.",)


@pytest.mark.parametrize("size", [(101, 50), (999, 334), (334, 999), (500, 333)])
def test_kept_border_is_less_than_two_cells(real, size):
    """Rounded down in cells: what is kept shows the whole picture and a sliver of border."""
    tiles = views(real, size)[1]
    left, top, right, bottom = tiles.to_original.inverse_box((0.0, 0.0, *map(float, size)))
    rows, cols = tiles.shape
    for start, end, cells in ((left, right, cols), (top, bottom, rows)):
        assert -0.6 < start < 1.6
        assert cells - 1.6 < end < cells + 0.6


def test_of_a_strip_no_cell_of_the_tiles_is_left(real):
    """The newline of each of the 24 rows is left: it is no cell."""
    inputs = ask(real, (1, 300))
    (thumbnail,) = real.views(inputs)[0]
    assert image_tokens(real, (1, 300)) == 24 * 24 + 24
    assert thumbnail.positions.max() - thumbnail.positions.min() == 575
    real.rows(inputs)


def test_the_real_grid_passes_the_paint_probe(tmp_path):
    folder = tiny_llava_next(tmp_path / "m", "mistral", tile=336, layers=1)
    opened = opens(LlavaNextAdapter, folder)
    paint.unmix(opened.model.module.model.vision_tower)
    report = paint.probe(opened, paint.embeddings, [(500, 333), (701, 1403)])
    report.check()
    assert report.right == report.planned >= 10


SETTINGS = fields("""image_token=<image> num_additional_image_tokens=1 patch_size=14
    processor_class=LlavaNextProcessor vision_feature_select_strategy=default""")


def as_published(folder, published, clip, settings=SETTINGS, **more):
    """As llava-hf/llava-v1.6-mistral-7b-hf states it (seen on a copy)."""
    stated = fields("""aspect_ratio_setting=anyres do_pad=true
        image_grid_pinpoints=[[336,672],[672,336],[672,672],[1008,336],[336,1008]]
        image_processor_type=LlavaNextImageProcessor processor_class=LlavaNextProcessor""")
    return published(folder, clip | stated, settings=settings, renamed=RENAMED, **more)


@pytest.mark.parametrize("settings", [None, SETTINGS])
def test_published_files_give_the_same_rows(tmp_path, published, clip, settings):
    folder = tiny_llava_next(tmp_path / "m", "mistral", tile=336, layers=1)
    expected = rows_of(LlavaNextAdapter, folder, "chat")
    as_published(folder, published, clip, settings)
    assert (rows_of(LlavaNextAdapter, folder, "chat") - expected).abs().max() < 1e-6


def test_a_head_that_is_the_embeddings_by_the_text_part_alone(tmp_path, published, clip):
    """Before transformers 5 the text config alone said so, and the head was not saved."""
    folder = tiny_llava_next(tmp_path / "m", "mistral", tile=336, layers=1)
    expected = rows_of(LlavaNextAdapter, folder, "chat")
    as_published(folder, published, clip, add=lambda w: w.pop("language_model.lm_head.weight"))
    with pytest.raises(WeightsError, match=r"1 missing \(lm_head\.weight\)"):
        opens(LlavaNextAdapter, folder)
    with edited(folder / "config.json") as config:
        config["text_config"]["tie_word_embeddings"] = True
    module = opens(LlavaNextAdapter, folder).model.module
    assert module.get_output_embeddings().weight is module.get_input_embeddings().weight
    assert (rows_of(LlavaNextAdapter, folder, "chat") - expected).abs().max() < 1e-6


# The template of llava-hf/llava-v1.6-34b-hf, by the script that wrote it (seen on a copy).
YI_CHAT = chat("<|im_start|>ROLE\n", "<image>\n", "<|im_end|>\n", answer="<|im_start|>assistant\n")


def test_the_prompt_of_the_largest_one(tmp_path):
    """Its decoder is Yi's: turns are marked, and no sentence of a system's is put before them."""
    opened = opens(LlavaNextAdapter, tiny_llava_next(tmp_path / "m", "vicuna"))
    opened.model.processor.chat_template = YI_CHAT
    inputs = ask(opened, (56, 56), "the cup", Prompt("chat"))
    assert inputs.rendered[0].replace("<image>", "") == chatml("\nthe cup.")
    (row,) = inputs.queries[0].rows
    assert inputs.tensors["input_ids"][0, row] == 13
