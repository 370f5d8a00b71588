"""LLaVA-NeXT, and its video form for pictures, with the towers and decoders that are in use."""

import json
from typing import Any, Literal

import pytest
import transformers as hf
from building import TOWER, chat, fields, save, text_part, vision_part, vocabulary
from families import VICUNA, ask, checkpoint, contract, opens, prompted, views

from vg_engine.core.contract.inputs import Expression
from vg_engine.core.contract.prompt import Prompt
from vg_engine.core.errors import WeightsError
from vg_engine.model_adapters.families.llava_next import LlavaNextAdapter
from vg_engine.model_adapters.families.llava_next_video import LlavaNextVideoAdapter
from vg_engine.testing import AdapterContract, noise, paint
from vg_engine.testing.tiny import BOS, EOS, LLAVA_CHAT, PAD

# The prompts of the model cards (looked up on copies): Vicuna's is LLaVA-1.5's.
MISTRAL_CHAT = (
    "{% for message in messages %}{% if message['role'] == 'system' %}"
    "{{ '<<SYS>>\n' + message['content'][0]['text'] + '\n<</SYS>>\n\n' }}{% else %}[INST] "
    "{% for content in message['content'] %}{% if content['type'] == 'image' %}<image>\n"
    "{% else %}{{ content['text'] }}{% endif %}{% endfor %} [/INST]{% endif %}{% endfor %}"
)
GRANITE_CHAT = (
    "{% for message in messages %}{{ '<|' + message['role'] + '|>\n' }}"
    "{% for content in message['content'] %}{% if content['type'] == 'image' %}<image>\n"
    "{% else %}{{ content['text'] }}\n{% endif %}{% endfor %}{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>\n{% endif %}"
)
CHATS = {"vicuna": LLAVA_CHAT, "mistral": MISTRAL_CHAT, "granite": GRANITE_CHAT}
CHATS["video"] = LLAVA_CHAT
Decoder = Literal["vicuna", "mistral", "granite", "video"]
# Height and width of canvases, in tiles; the first five are LLaVA-1.6's.
POINTS = ((1, 2), (2, 1), (2, 2), (3, 1), (1, 3))
TOWER: dict[str, Any] = vision_part("num_hidden_layers=3 patch_size=14")


def tiny_llava_next(folder, decoder: Decoder, *, tile=56, layers=4):
    """With the CLIP tower of LLaVA-1.6, or SigLIP's and several of its layers as in Granite."""
    siglip = decoder == "granite"
    tokenizer = vocabulary(f"pad={PAD} bos={BOS} eos={EOS}", ["<image>"])
    points = [[rows * tile, cols * tile] for rows, cols in POINTS]
    processor_class: Any = hf.LlavaNextProcessor
    # Older files say nothing about patches: the adapter takes them from the config.
    processor = processor_class(
        image_processor=hf.LlavaNextImageProcessorPil(
            size={"shortest_edge": tile},
            crop_size={"height": tile, "width": tile},
            image_grid_pinpoints=points,
        ),
        tokenizer=tokenizer,
        chat_template=CHATS[decoder],
    )
    sizes = text_part(tokenizer, layers=layers)
    text = {
        "vicuna": hf.LlamaConfig(**sizes),
        "video": hf.LlamaConfig(**sizes),
        "mistral": hf.MistralConfig(**sizes, sliding_window=None),
        "granite": hf.GraniteConfig(**sizes, attention_multiplier=0.2, residual_multiplier=0.5),
    }[decoder]
    tower = hf.SiglipVisionConfig if siglip else hf.CLIPVisionConfig
    made: Any = hf.LlavaNextVideoConfig if decoder == "video" else hf.LlavaNextConfig
    config = made(
        vision_config=tower(**TOWER, image_size=tile),
        text_config=text,
        image_grid_pinpoints=points,
        vision_feature_layer=[-3, -1] if siglip else -2,
        vision_feature_select_strategy="full" if siglip else "default",
        image_token_index=tokenizer.convert_tokens_to_ids("<image>"),
    )
    whole: Any = (
        hf.LlavaNextVideoForConditionalGeneration
        if decoder == "video"
        else hf.LlavaNextForConditionalGeneration
    )
    return save(whole, config, processor, folder)


TestVicuna = contract(
    LlavaNextAdapter,
    (
        prompted(f"{VICUNA} <image>\nthe cup.", form="bare"),
        prompted("USER: <image>\nthe cup. ASSISTANT:"),
    ),
    lambda folder: tiny_llava_next(folder, "vicuna"),
    foreign=("num_additional_image_tokens", 0, (88, 87)),
)
TestMistral = contract(
    LlavaNextAdapter,
    (
        prompted(f"{VICUNA} <image>\nwhich cup?", "which cup?", form="bare"),
        prompted("[INST] <image>\nthe cup. [/INST]"),
        prompted("<<SYS>>\nSee.\n<</SYS>>\n\n[INST] <image>\nthe cup. [/INST]", system="See."),
    ),
    lambda folder: tiny_llava_next(folder, "mistral"),
)


class TestVideo(TestVicuna):
    """Pictures only: of them, its processor makes what LLaVA-NeXT's makes."""

    adapter = LlavaNextVideoAdapter

    def build(self, folder):
        tiny_llava_next(folder, "video")


class TestGraniteVision(AdapterContract):
    """A tile of 62 pixels has 4 whole patches, as 384 has 27: the rest is not seen."""

    adapter = LlavaNextAdapter
    golden = (
        prompted(f"{VICUNA} <image>\nthe cup.", form="bare"),
        prompted("<|user|>\n<image>\nthe cup.\n<|assistant|>\n"),
    )

    def build(self, folder):
        tiny_llava_next(folder, "granite", tile=62)


# Tiles of 336 pixels and patches of 14, as published; a small decoder.
real = checkpoint(tiny_llava_next, "mistral", tile=336, layers=1)


def located(opened, size):
    return views(opened, size)


def test_real_sizes(real):
    """A picture of 640 x 480: 672 x 504 pixels on 2 x 2 tiles, of 48 rows 36 are kept."""
    opened = opens(LlavaNextAdapter, real)
    inputs = ask(opened, (640, 480))
    image = opened.model.processor.image_token_id
    assert int((inputs.tensors["input_ids"] == image).sum()) == 24 * 24 + 36 * 49 == 2340
    thumbnail, tiles = opened.views(inputs)[0]
    assert (thumbnail.name, thumbnail.shape) == ("thumbnail", (24, 24))
    assert (tiles.name, tiles.shape) == ("tiles", (36, 48))
    for view in (thumbnail, tiles):
        assert view.extent == pytest.approx((0.0, 0.0, 640.0, 480.0))
    assert opened.model.statements == ("A picture is shown whole, and again on up to 4 tiles.",)


@pytest.mark.parametrize("size", [(101, 50), (999, 334), (334, 999), (500, 333)])
def test_kept_border_is_less_than_two_cells(real, size):
    """Rounded down in cells: what is kept shows the whole picture and a sliver of border."""
    opened = opens(LlavaNextAdapter, real)
    tiles = located(opened, size)[1]
    left, top, right, bottom = tiles.to_original.inverse_box((0.0, 0.0, *map(float, size)))
    rows, cols = tiles.shape
    for start, end, cells in ((left, right, cols), (top, bottom, rows)):
        assert -0.6 < start < 1.6
        assert cells - 1.6 < end < cells + 0.6


def test_of_a_strip_no_cell_of_the_tiles_is_left(real):
    """The newline of each of the 24 rows is left: it is no cell."""
    opened = opens(LlavaNextAdapter, real)
    inputs = ask(opened, (1, 300))
    (thumbnail,) = opened.views(inputs)[0]
    image = opened.model.processor.image_token_id
    assert int((inputs.tensors["input_ids"] == image).sum()) == 24 * 24 + 24
    assert thumbnail.positions.max() - thumbnail.positions.min() == 575
    opened.rows(inputs)


def test_the_real_grid_passes_the_paint_probe(real):
    opened = opens(LlavaNextAdapter, real)
    paint.unmix(opened.model.module.model.vision_tower)
    report = paint.probe(opened, paint.embeddings, [(500, 333), (701, 1403)])
    report.check()
    assert report.right == report.planned >= 10


POINTS_336 = [[336, 672], [672, 336], [672, 672], [1008, 336], [336, 1008]]
SETTINGS = {
    "image_token": "<image>",
    **fields("""num_additional_image_tokens=1 patch_size=14
        processor_class=LlavaNextProcessor vision_feature_select_strategy=default"""),
}


def as_published(folder, published, clip, settings=SETTINGS, **more):
    """As llava-hf/llava-v1.6-mistral-7b-hf states it (seen on a copy)."""
    stated = {
        **fields("""aspect_ratio_setting=anyres do_pad=true
            image_processor_type=LlavaNextImageProcessor processor_class=LlavaNextProcessor"""),
        "image_grid_pinpoints": POINTS_336,
    }
    renamed = [(r"^vision_tower\.", "vision_tower.vision_model.")]
    return published(folder, clip | stated, settings=settings, renamed=renamed, **more)


def rows(folder):
    opened = opens(LlavaNextAdapter, folder)
    inputs = opened.prepare([noise((640, 480))], [Expression(0, "it")], Prompt("chat"))
    return opened.rows(inputs)[0]


@pytest.mark.parametrize("settings", [None, SETTINGS])
def test_published_files_give_the_same_rows(tmp_path, published, clip, settings):
    folder = tiny_llava_next(tmp_path / "m", "mistral", tile=336, layers=1)
    expected = rows(folder)
    as_published(folder, published, clip, settings)
    assert (rows(folder) - expected).abs().max() < 1e-6


def test_a_head_that_is_the_embeddings_by_the_text_part_alone(tmp_path, published, clip):
    """Before transformers 5 the text part said so, and the head was left out of the file."""
    folder = tiny_llava_next(tmp_path / "m", "mistral", tile=336, layers=1)
    expected = rows(folder)
    as_published(folder, published, clip, add=lambda w: w.pop("language_model.lm_head.weight"))
    with pytest.raises(WeightsError, match=r"1 missing \(lm_head\.weight\)"):
        opens(LlavaNextAdapter, folder)
    path = folder / "config.json"
    config = json.loads(path.read_text(encoding="utf-8"))
    config["text_config"]["tie_word_embeddings"] = True
    path.write_text(json.dumps(config), encoding="utf-8")
    opened = opens(LlavaNextAdapter, folder)
    module = opened.model.module
    assert module.get_output_embeddings().weight is module.get_input_embeddings().weight
    assert (rows(folder) - expected).abs().max() < 1e-6


# The template of llava-hf/llava-v1.6-34b-hf, by the script that wrote it (seen on a copy).
YI_CHAT = chat("<|im_start|>ROLE\n", "<image>\n", "<|im_end|>\n", answer="<|im_start|>assistant\n")


def test_the_prompt_of_the_largest_one(tmp_path):
    """Its decoder is Yi's: turns are marked, and no sentence of a system's is put before them."""
    opened = opens(LlavaNextAdapter, tiny_llava_next(tmp_path / "m", "vicuna"))
    opened.model.processor.chat_template = YI_CHAT
    inputs = opened.prepare([noise((56, 56))], [Expression(0, "the cup")], Prompt("chat"))
    text = inputs.rendered[0].replace("<image>", "")
    assert text == "<|im_start|>user\n\nthe cup.<|im_end|>\n<|im_start|>assistant\n"
    (row,) = inputs.queries[0].rows
    assert inputs.tensors["input_ids"][0, row] == 13
