"""Pixtral and its kin (Mistral 3, LightOnOCR) pass the public contract in a picture's own shape."""

import json
from typing import Any, ClassVar

import pytest
import torch
import transformers as hf
from building import TOWER, chat, fields, save, text_part, vocabulary
from families import VICUNA, ask, checkpoint, contract, opens, prompted, views
from transformers.integrations.mistral import tokenizer as mistral
from transformers.models.auto import tokenization_auto

from vg_engine.core.contract.inputs import Expression
from vg_engine.core.contract.prompt import Prompt
from vg_engine.core.errors import PictureError
from vg_engine.model_adapters.families.lighton_ocr import LightOnOcrAdapter
from vg_engine.model_adapters.families.llava import LlavaAdapter
from vg_engine.model_adapters.families.mistral3 import Mistral3Adapter
from vg_engine.model_adapters.families.pixtral import PixtralAdapter, PixtralProcessor
from vg_engine.testing import AdapterContract, conduct, noise
from vg_engine.testing.tiny import BOS, END_OF_TEXT, END_OF_TURN, EOS, PAD, save_tiny

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
WORDS = ["[IMG]", "[IMG_BREAK]", "[IMG_END]", "[INST]", "[/INST]"]


def tower(patch: int, most: int) -> hf.PixtralVisionConfig:
    made: Any = hf.PixtralVisionConfig
    return made(**TOWER, image_size=most, patch_size=patch)


def parts(patch: int, most: int, merge: int) -> tuple[Any, Any]:
    """Tokenizer and processor of Pixtral and Mistral 3, saved under transformers' name for it."""
    tokenizer = vocabulary(f"pad={PAD} bos={BOS} eos={EOS}", WORDS)
    processor = PixtralProcessor(
        hf.PixtralImageProcessorPil(
            size={"longest_edge": most}, patch_size={"height": patch, "width": patch}
        ),
        tokenizer,
        patch_size=patch,
        spatial_merge_size=merge,
        chat_template=MISTRAL_CHAT if merge > 1 else PIXTRAL_CHAT,
    )
    return tokenizer, processor


def tiny_pixtral(folder, *, most=160, layers=4):
    tokenizer, processor = parts(16, most, 1)
    text = hf.MistralConfig
    config = hf.LlavaConfig(
        vision_config=tower(16, most),
        text_config=text(**text_part(tokenizer, layers=layers), sliding_window=None),
        vision_feature_layer=-1,
        vision_feature_select_strategy="full",
        image_seq_length=1,
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
    named = {
        "image_token": "<|image_pad|>",
        "image_break_token": "<|vision_pad|>",
        "image_end_token": "<|vision_end|>",
    }
    tokenizer = vocabulary(f"pad={END_OF_TEXT} <|im_start|> eos={END_OF_TURN}", named)
    processor = hf.LightOnOcrProcessor(
        hf.PixtralImageProcessorPil(size={"longest_edge": most}, patch_size=step),
        tokenizer,
        chat_template=LIGHTON_CHAT,
    )
    made: Any = hf.LightOnOcrConfig
    text = hf.Qwen3Config
    config = made(
        vision_config=tower(14, most),
        text_config=text(**text_part(tokenizer), head_dim=16),
        image_token_id=tokenizer.convert_tokens_to_ids("<|image_pad|>"),
        tie_word_embeddings=False,
    )
    torch.manual_seed(0)
    module = hf.LightOnOcrForConditionalGeneration(config)
    for name, parameter in module.get_decoder().named_parameters():
        # Queries and keys are normed here, so projections cannot sharpen.
        if "q_norm" in name or "k_norm" in name:
            parameter.data.mul_(2.0)
    return save_tiny(module, processor, folder)


def rows_of(cells: int) -> str:
    """A square picture of so many rows, with every run of cells written once."""
    return "[IMG][IMG_BREAK]" * (cells - 1) + "[IMG][IMG_END]"


TestPixtral = contract(
    PixtralAdapter,
    (
        prompted(f"{VICUNA} {rows_of(4)}\nthe cup.", form="bare"),
        prompted(f"<s>[INST]{rows_of(4)}which cup?[/INST]", "which cup?"),
    ),
    tiny_pixtral,
    foreign=("patch_size", 20, (30, 48), (120, 90)),
)
TestMistral3 = contract(
    Mistral3Adapter,
    (
        prompted(f"{VICUNA} {rows_of(3)}\nthe cup.", form="bare"),
        prompted(
            f"<s>[SYSTEM_PROMPT]See.[/SYSTEM_PROMPT][INST]{rows_of(3)}the cup.[/INST]",
            system="See.",
        ),
        prompted(
            "<s>[SYSTEM_PROMPT]You are Mistral.[/SYSTEM_PROMPT]"
            f"[INST]{rows_of(3)}which cup?[/INST]",
            "which cup?",
        ),
    ),
    lambda folder: tiny_mistral3(folder, hf.MistralConfig),
    # The tower mixes all pictures of a batch behind one mask: large ones take long.
    shapes=((240, 240), (333, 190), (187, 341), (97, 61), (900, 60), (61, 150)),
)


class TestMinistral3(TestMistral3):
    def build(self, folder):
        tiny_mistral3(folder, hf.Ministral3Config)


class TestLightOnWholeCells(AdapterContract):
    adapter = LightOnOcrAdapter
    golden = (
        prompted(f"{VICUNA} <|image_pad|>\nthe cup.", form="bare"),
        prompted(
            "<|im_start|>system<|im_end|>\n<|im_start|>user\n<|image_pad|>the cup.\n<|im_end|>\n"
            "<|im_start|>assistant\n"
        ),
    )
    step: ClassVar[int] = 28

    def build(self, folder):
        tiny_lighton(folder, step=self.step)

    def vision_tower(self, module):
        return module.base_model.vision_encoder


class TestLightOn(TestLightOnWholeCells):
    """As published: pictures are whole patches, and the last of an odd number is in no cell."""

    step: ClassVar[int] = 14

    def test_every_token_is_located(self, opened):
        """Narrower than a merged cell, a picture has no cell: most of the kit's odd sizes."""
        sizes = [size for size in conduct.ODD_SIZES if min(size) >= 28]
        sizes += [(28, 28), (15, 15), (29, 43), (28, 279), (250, 30)]
        assert conduct.check_tokens(opened, sizes)[1] == []
        for size in set(conduct.ODD_SIZES) - set(sizes):
            with pytest.raises(PictureError, match=r"too small .* enlarge it or cut it first"):
                ask(opened, size)


# Patches of 16 and a longest side of 1024 pixels, as published.
real = checkpoint(tiny_pixtral, most=1024, layers=1)


def located(opened, size):
    (view,) = views(opened, size)
    return view


@pytest.mark.parametrize(
    ("size", "shape"),
    [((640, 480), (30, 40)), ((641, 481), (31, 41)), ((2048, 1000), (32, 64)), ((17, 3), (1, 2))],
)
def test_real_sizes(real, size, shape):
    """Never enlarged, but for the last patch."""
    opened = opens(PixtralAdapter, real)
    view = located(opened, size)
    assert view.shape == shape
    assert view.extent == pytest.approx((0.0, 0.0, *size))


def test_row_ends_are_no_image_tokens(real):
    opened = opens(PixtralAdapter, real)
    inputs = ask(opened, (640, 480))
    ids, known = inputs.tensors["input_ids"][0], opened.model.processor.tokenizer
    counts = [int((ids == known.convert_tokens_to_ids(word)).sum()) for word in WORDS[:3]]
    assert counts == [30 * 40, 29, 1]
    (view,) = opened.views(inputs)[0]
    assert (view.positions[1:, 0] - view.positions[:-1, 0] == 41).all()


def test_the_tower_tells_pixtral_from_llava(real):
    config = opens(PixtralAdapter, real).model.module.config.to_dict()
    assert PixtralAdapter.claims(config)
    assert not LlavaAdapter.claims(config)
    assert not PixtralAdapter.claims({"model_type": "llava"})
    assert not PixtralAdapter.claims({"model_type": "mistral3"})


def test_too_small_a_picture_is_refused(tmp_path):
    opened = opens(Mistral3Adapter, tiny_mistral3(tmp_path / "m", hf.MistralConfig))
    with pytest.raises(
        PictureError, match=r"20 x 28 is too small .* 1 x 1 cells; enlarge it or cut it"
    ):
        located(opened, (20, 28))
    opened.rows(ask(opened, (20, 29)))


def as_published(folder, published, fast, edge: int, patch: int, **settings):
    """Its image processor's settings as Magistral's repository states them (seen on a copy)."""
    images = {
        **fast,
        **fields("""do_convert_rgb=true do_normalize=true do_rescale=true do_resize=true
            image_mean=[0.48145466,0.4578275,0.40821073]
            image_processor_type=PixtralImageProcessorFast
            image_std=[0.26862954,0.26130258,0.27577711]"""),
        "patch_size": {"height": patch, "width": patch},
        "processor_class": "PixtralProcessor",
        "resample": 3,
        "rescale_factor": 0.00392156862745098,
        "size": {"longest_edge": edge},
    }
    return published(folder, images, settings={"processor_class": "PixtralProcessor", **settings})


@pytest.mark.parametrize("settings", [{}, {"patch_size": 14, "spatial_merge_size": 2}])
def test_published_files_give_the_same_rows(tmp_path, published, fast, settings):
    """Early ones say nothing about patches and their merging: those are the config's."""

    def rows():
        opened = opens(Mistral3Adapter, folder)
        inputs = opened.prepare([noise((640, 480))], [Expression(0, "it")], Prompt("chat"))
        assert opened.views(inputs)[0][0].shape == (18, 23)
        return opened.rows(inputs)[0]

    folder = tiny_mistral3(tmp_path / "m", hf.MistralConfig, most=1540, layers=1)
    expected = rows()
    as_published(folder, published, fast, 1540, 14, **settings)
    assert (rows() - expected).abs().max() < 1e-6


def test_the_tokenizers_own_file_is_read_beside_mistrals(tmp_path, published, fast, monkeypatch):
    """transformers would take Mistral's package where it is installed: it gives no offsets."""
    folder = tiny_mistral3(tmp_path / "m", hf.MistralConfig, layers=1)
    as_published(folder, published, fast, 700, 14)
    (folder / "tekken.json").write_text("{}", encoding="utf-8")
    monkeypatch.setitem(
        tokenization_auto.TOKENIZER_MAPPING_NAMES, "mistral3", "MistralCommonBackend"
    )
    monkeypatch.setattr(mistral, "resolve_mistral_format", lambda *_, **__: (True, "tekken.json"))
    opened = opens(Mistral3Adapter, folder)
    opened.rows(ask(opened))


def test_numbers_are_cut_as_mistrals_models_know_them(tmp_path, published, fast):
    """Repositories before transformers 5 cut by a wrong pattern, which transformers can mend."""
    folder = tiny_mistral3(tmp_path / "m", hf.MistralConfig, layers=1)
    path = folder / "tokenizer.json"
    stated = json.loads(path.read_text(encoding="utf-8"))
    pattern = {"type": "Split", "pattern": {"Regex": r"\p{N}{1,3}|\P{N}+"}, "invert": False}
    cut = {**pattern, "behavior": "Isolated"}
    stated["pre_tokenizer"] = {"type": "Sequence", "pretokenizers": [cut, stated["pre_tokenizer"]]}
    stated["model"]["merges"] = [["1", "2"]]
    # As many words as theirs: transformers knows their tokenizers by it.
    stated["model"]["vocab"] |= {"12": 1000, **{f"{n} {n}": n for n in range(1001, 101_500)}}
    path.write_text(json.dumps(stated), encoding="utf-8")
    as_published(folder, published, fast, 700, 14)
    known = opens(Mistral3Adapter, folder).model.processor.tokenizer
    assert known.tokenize("12 cups")[:2] == ["1", "2"]
