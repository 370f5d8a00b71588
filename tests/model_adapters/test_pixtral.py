"""Pixtral and its kin (Mistral 3, LightOnOCR) pass the public contract in a picture's own shape."""

from functools import partial
from typing import Any

import pytest
import transformers as hf
from building import chat, edited, fields, save, square, text_part, vision_part, vocabulary
from families import VICUNA, ask, chatml, contract, loaded, opens, prompted, rows_of, shows, views
from transformers.integrations.mistral import tokenizer as mistral
from transformers.models.auto import tokenization_auto

from vg_engine.core.errors import PictureError
from vg_engine.model_adapters.families.lighton_ocr import LightOnOcrAdapter
from vg_engine.model_adapters.families.llava import LlavaAdapter
from vg_engine.model_adapters.families.mistral3 import Mistral3Adapter
from vg_engine.model_adapters.families.pixtral import PixtralAdapter, PixtralProcessor
from vg_engine.testing import side_effects

# Render what the published ones do (looked up on copies). Pixtral's knows no role of a system: it
# takes the sentence as plain text, into the user's turn. Mistral Small's has a sentence of its own,
# a long one with the day's date in it.
PIXTRAL_CHAT = chat("[INST]", "[IMG]", "[/INST]", opening="{{ bos_token }}")
MISTRAL_CHAT = (
    "{{ bos_token }}{% if messages[0]['role'] != 'system' %}"
    "[SYSTEM_PROMPT]You are Mistral.[/SYSTEM_PROMPT]{% endif %}"
    "{% for message in messages %}{% if message['role'] == 'user' %}[INST]"
    "{% for content in message['content'] %}{% if content['type'] == 'image' %}[IMG]"
    "{% else %}{{ content['text'] }}{% endif %}{% endfor %}[/INST]"
    "{% else %}[SYSTEM_PROMPT]{{ message['content'][0]['text'] }}[/SYSTEM_PROMPT]{% endif %}"
    "{% endfor %}"
)
# Renders what the published one does (looked up on a copy), without its numbered pictures.
LIGHTON_CHAT = (
    "{% for message in messages %}"
    "{% if loop.first and message['role'] != 'system' %}<|im_start|>system<|im_end|>\n{% endif %}"
    "{{ '<|im_start|>' + message['role'] + '\n' }}"
    "{% for content in message['content'] %}{% if content['type'] == 'image' %}<|image_pad|>"
    "{% else %}{{ content['text'] + '\n' }}{% endif %}{% endfor %}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
SYSTEM = "[SYSTEM_PROMPT]"
WORDS = ["[IMG]", "[IMG_BREAK]", "[IMG_END]", "[INST]", "[/INST]"]


def tower(patch: int, most: int) -> Any:
    return hf.PixtralVisionConfig(**vision_part(image_size=most, patch_size=patch))


def parts(patch: int, most: int, merge: int) -> tuple[Any, Any]:
    """Tokenizer and processor of Pixtral and Mistral 3, saved under transformers' name for it."""
    tokenizer = vocabulary("pad=<pad> bos=<s> eos=</s>", WORDS)
    images = hf.PixtralImageProcessorPil(size={"longest_edge": most}, patch_size=square(patch))
    template = MISTRAL_CHAT if merge > 1 else PIXTRAL_CHAT
    more = {"patch_size": patch, "spatial_merge_size": merge, "chat_template": template}
    return tokenizer, PixtralProcessor(images, tokenizer, **more)


def tiny_pixtral(folder, *, most=160, layers=4):
    tokenizer, processor = parts(16, most, 1)
    config = hf.LlavaConfig(
        vision_config=tower(16, most),
        text_config=hf.MistralConfig(**text_part(tokenizer, layers=layers), sliding_window=None),
        **fields("vision_feature_layer=-1 vision_feature_select_strategy=full image_seq_length=1"),
        image_token_index=tokenizer.convert_tokens_to_ids("[IMG]"),
    )
    return save(hf.LlavaForConditionalGeneration, config, processor, folder)


def tiny_mistral3(folder, text, *, most=700, layers=4):
    tokenizer, processor = parts(14, most, 2)
    config = hf.Mistral3Config(
        vision_config=tower(14, most),
        text_config=text(**text_part(tokenizer, layers=layers), sliding_window=None),
        image_token_index=tokenizer.convert_tokens_to_ids("[IMG]"),
        spatial_merge_size=2,
        tie_word_embeddings=False,
    )
    return save(hf.Mistral3ForConditionalGeneration, config, processor, folder)


def tiny_lighton(folder, *, step=14, most=280):
    """Pictures of whole steps: of a patch as published (a bare number), or of a merged cell."""
    named = fields("""image_token=<|image_pad|> image_break_token=<|vision_pad|>
        image_end_token=<|vision_end|>""")
    tokenizer = vocabulary("pad=<|endoftext|> <|im_start|> eos=<|im_end|>", named)
    images = hf.PixtralImageProcessorPil(size={"longest_edge": most}, patch_size=step)
    processor = hf.LightOnOcrProcessor(images, tokenizer, chat_template=LIGHTON_CHAT)
    config = hf.LightOnOcrConfig(
        vision_config=tower(14, most),
        text_config=hf.Qwen3Config(**text_part(tokenizer), head_dim=16),
        image_token_id=tokenizer.convert_tokens_to_ids("<|image_pad|>"),
        tie_word_embeddings=False,
    )
    return save(hf.LightOnOcrForConditionalGeneration, config, processor, folder, norms=2.0)


def cells_of(cells: int) -> str:
    """A square picture of so many rows, with every run of cells written once."""
    return "[IMG][IMG_BREAK]" * (cells - 1) + "[IMG][IMG_END]"


FOREIGN = ("patch_size", 20, (30, 48), (120, 90))
GOLDEN = (
    prompted(f"{VICUNA} {cells_of(4)}\nthe cup.", form="bare"),
    prompted(f"<s>[INST]{cells_of(4)}which cup?[/INST]", "which cup?"),
)
TestPixtral = contract(PixtralAdapter, GOLDEN, tiny_pixtral, foreign=FOREIGN)
CUT = cells_of(3)
TestMistral3 = contract(
    Mistral3Adapter,
    (
        prompted(f"{VICUNA} {CUT}\nthe cup.", form="bare"),
        prompted(f"<s>{SYSTEM}See.[/SYSTEM_PROMPT][INST]{CUT}the cup.[/INST]", system="See."),
        prompted(
            f"<s>{SYSTEM}You are Mistral.[/SYSTEM_PROMPT][INST]{CUT}which cup?[/INST]", "which cup?"
        ),
    ),
    lambda folder: tiny_mistral3(folder, hf.MistralConfig),
    # The tower mixes all pictures of a batch behind one mask: large ones take long.
    shapes=((240, 240), (333, 190), (187, 341), (97, 61), (900, 60), (61, 150)),
)


class TestMinistral3(TestMistral3):
    pytestmark = pytest.mark.slow

    def build(self, folder):
        tiny_mistral3(folder, hf.Ministral3Config)


GOLDEN = (
    prompted(f"{VICUNA} <|image_pad|>\nthe cup.", form="bare"),
    prompted("<|im_start|>system<|im_end|>\n" + chatml("<|image_pad|>the cup.\n")),
)


class TestLightOnWholeCells(contract(LightOnOcrAdapter, GOLDEN, partial(tiny_lighton, step=28))):
    def vision_tower(self, module):
        return module.base_model.vision_encoder


class TestLightOn(TestLightOnWholeCells):
    """As published: pictures are whole patches, and the last of an odd number is in no cell."""

    def build(self, folder):
        tiny_lighton(folder)

    def test_every_token_is_located(self, opened):
        """Narrower than a merged cell, a picture has no cell: most of the kit's odd sizes."""
        sizes = [size for size in side_effects.ODD_SIZES if min(size) >= 28]
        sizes += [(28, 28), (15, 15), (29, 43), (28, 279), (250, 30)]
        assert side_effects.check_tokens(opened, sizes)[1] == []
        for size in set(side_effects.ODD_SIZES) - set(sizes):
            with pytest.raises(PictureError, match=r"too small .* enlarge it or cut it first"):
                ask(opened, size)


# Patches of 16 and a longest side of 1024 pixels, as published.
real = loaded(PixtralAdapter, tiny_pixtral, most=1024, layers=1)


@pytest.mark.parametrize(
    ("size", "shape"),
    [((640, 480), (30, 40)), ((641, 481), (31, 41)), ((2048, 1000), (32, 64)), ((17, 3), (1, 2))],
)
def test_real_sizes(real, size, shape):
    """Never enlarged, but for the last patch."""
    shows(real, size, shape)


def test_row_ends_are_no_image_tokens(real):
    inputs = ask(real, (640, 480))
    ids, known = inputs.tensors["input_ids"][0], real.model.processor.tokenizer
    counts = [int((ids == known.convert_tokens_to_ids(word)).sum()) for word in WORDS[:3]]
    assert counts == [30 * 40, 29, 1]
    (view,) = real.views(inputs)[0]
    assert (view.positions[1:, 0] - view.positions[:-1, 0] == 41).all()


def test_the_tower_tells_pixtral_from_llava(real):
    config = real.model.module.config.to_dict()
    assert PixtralAdapter.claims(config)
    assert not LlavaAdapter.claims(config)
    assert not PixtralAdapter.claims({"model_type": "llava"})
    assert not PixtralAdapter.claims({"model_type": "mistral3"})


def test_too_small_a_picture_is_refused(tmp_path):
    opened = opens(Mistral3Adapter, tiny_mistral3(tmp_path / "m", hf.MistralConfig))
    told = r"20 x 28 is too small .* 1 x 1 cells; enlarge it or cut it"
    with pytest.raises(PictureError, match=told):
        views(opened, (20, 28))
    opened.rows(ask(opened, (20, 29)))


def as_published(folder, published, fast, edge: int, patch: int, **settings):
    """Its image processor's settings as Magistral's repository states them (seen on a copy)."""
    images = fast | fields("""do_convert_rgb=true do_normalize=true do_rescale=true do_resize=true
        image_mean=[0.48145466,0.4578275,0.40821073] image_std=[0.26862954,0.26130258,0.27577711]
        image_processor_type=PixtralImageProcessorFast processor_class=PixtralProcessor resample=3
        rescale_factor=0.00392156862745098""")
    images["patch_size"] = square(patch)
    images["size"] = {"longest_edge": edge}
    return published(folder, images, settings={"processor_class": "PixtralProcessor", **settings})


@pytest.mark.parametrize("settings", [{}, {"patch_size": 14, "spatial_merge_size": 2}])
def test_published_files_give_the_same_rows(tmp_path, published, fast, settings):
    """Early ones say nothing about patches and their merging: those are the config's."""

    folder = tiny_mistral3(tmp_path / "m", hf.MistralConfig, most=1540, layers=1)
    expected = rows_of(Mistral3Adapter, folder, "chat")
    as_published(folder, published, fast, 1540, 14, **settings)
    shows(opens(Mistral3Adapter, folder), (640, 480), (18, 23))
    assert (rows_of(Mistral3Adapter, folder, "chat") - expected).abs().max() < 1e-6


def test_the_tokenizers_own_file_is_read_beside_mistrals(tmp_path, published, fast, monkeypatch):
    """transformers would take Mistral's package where it is installed: it gives no offsets."""
    folder = tiny_mistral3(tmp_path / "m", hf.MistralConfig, layers=1)
    as_published(folder, published, fast, 700, 14)
    (folder / "tekken.json").write_text("{}", encoding="utf-8")
    known = tokenization_auto.TOKENIZER_MAPPING_NAMES
    monkeypatch.setitem(known, "mistral3", "MistralCommonBackend")
    monkeypatch.setattr(mistral, "resolve_mistral_format", lambda *_, **__: (True, "tekken.json"))
    opened = opens(Mistral3Adapter, folder)
    opened.rows(ask(opened))


def test_numbers_are_cut_as_mistrals_models_know_them(tmp_path, published, fast):
    """Repositories before transformers 5 cut by a wrong pattern, which transformers can mend."""
    folder = tiny_mistral3(tmp_path / "m", hf.MistralConfig, layers=1)
    pattern = {"type": "Split", "pattern": {"Regex": r"\p{N}{1,3}|\P{N}+"}, "invert": False}
    cut = {**pattern, "behavior": "Isolated"}
    with edited(folder / "tokenizer.json") as stated:
        steps = [cut, stated["pre_tokenizer"]]
        stated["pre_tokenizer"] = {"type": "Sequence", "pretokenizers": steps}
        stated["model"]["merges"] = [["1", "2"]]
        # As many words as theirs: transformers knows their tokenizers by it.
        many = {f"{n} {n}": n for n in range(1001, 101_500)}
        stated["model"]["vocab"] |= {"12": 1000, **many}
    as_published(folder, published, fast, 700, 14)
    known = opens(Mistral3Adapter, folder).model.processor.tokenizer
    assert known.tokenize("12 cups")[:2] == ["1", "2"]
