"""Mini-Gemini passes the public contract; its mining is the published one, read plainly."""

import math
import shutil

import numpy as np
import pytest
import torch
from families import TOWER, ask, checkpoint, plain, prompted, save, shows
from originals import llava_processor, loaded, saved_again
from PIL import Image
from transformers import AutoConfig, CLIPVisionConfig, GemmaConfig, LlamaConfig, LlavaProcessor
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

from vg_engine.core.contract.inputs import Expression
from vg_engine.core.contract.picture import Picture
from vg_engine.core.errors import InputError
from vg_engine.model_adapters.conversion.configs import chat_template
from vg_engine.model_adapters.families.mini_gemini import MiniGeminiAdapter
from vg_engine.model_adapters.modules.mini_gemini import (
    HighResolutionTower,
    MiniGeminiConfig,
    MiniGeminiForConditionalGeneration,
    PatchInfoMining,
    parts_of,
)
from vg_engine.testing import AdapterContract, open_adapter, paint
from vg_engine.testing.tiny import EOS, LLAVA_CHAT, PAD, byte_tokenizer, text_sizes

SYSTEM = (
    "A chat between a curious user and an artificial intelligence assistant. The assistant gives "
    "helpful, detailed, and polite answers to the user's questions."
)
SPECIAL = [PAD, EOS, "<bos>", "<start_of_turn>", "<end_of_turn>", "<image>"]
STAGES = [8, 12, 16, 24]
VIEWS = ("pixel_values", "pixel_values_aux")


def tiny_mini_gemini(folder, *, image_size=112, aux_size=256, text="gemma", **sizes):
    tokenizer = byte_tokenizer(
        SPECIAL,
        merges=((".", "Ċ"),),
        pad_token=PAD,
        bos_token="<bos>",
        eos_token=EOS,
        extra_special_tokens=SPECIAL[3:],
        padding_side="left",
    )
    settings = text_sizes(tokenizer, **sizes)
    if text == "gemma":
        # One key head for all, and heads that are not the width divided by their number.
        settings |= {"num_key_value_heads": 1, "head_dim": 24}
    vision = {**TOWER, "num_hidden_layers": 3, "image_size": image_size, "patch_size": 14}
    config = MiniGeminiConfig(
        vision_config=CLIPVisionConfig(**vision),
        aux_config={"hidden_sizes": STAGES, "depths": [1, 1, 2, 1], "layer_scale_init_value": 0.5},
        image_size_aux=aux_size,
        text_config=(GemmaConfig if text == "gemma" else LlamaConfig)(**settings),
        image_token_index=tokenizer.convert_tokens_to_ids("<image>"),
        image_seq_length=(image_size // 14) ** 2,
    )
    chat = chat_template("mini_gemini_gemma") if text == "gemma" else LLAVA_CHAT
    processor = llava_processor(tokenizer, image_size, chat)
    return save(MiniGeminiForConditionalGeneration, config, processor, folder)


def unmixed(module):
    """Each feature of either tower depends on its own pixels, but for the enlarging of maps."""
    base = module.base_model
    paint.unmix(base.vision_tower)
    for part in base.vision_tower_aux.modules():
        if isinstance(part, torch.nn.Conv2d) and part.groups > 1:
            centre = part.weight.data[..., 3, 3].clone()
            part.weight.data.zero_()
            part.weight.data[..., 3, 3] = centre


class MiniGeminiContract(AdapterContract):
    adapter = MiniGeminiAdapter
    load_plain = plain(MiniGeminiForConditionalGeneration)

    def unmix(self, opened):
        unmixed(opened.model.module)


BARE = prompted(f"{SYSTEM} <image>\nthe cup.", form="bare")
TURN = "<start_of_turn>user\n<image>\n{}<end_of_turn>\n<start_of_turn>model\n"
# fmt: off
TURN_IDS = (
    260, 84, 82, 68, 81, 198, 262, 198, 83, 71, 68, 220, 66, 84, 79, 13, 261, 198, 260, 76, 78,
    67, 68, 75, 198,
)
# fmt: on


class TestGemma(MiniGeminiContract):
    golden = (
        BARE,
        prompted("Look. <image>\nwhich cup?", "which cup?", form="bare", system="Look."),
        prompted(TURN.format("the cup."), ids=TURN_IDS),
        prompted(
            "See." + TURN.format("它。"),
            "它。",
            system="See.",
            query_row="expression_all",
            rows=(161, 106, 225, 159, 222, 224),
        ),
    )

    def build(self, folder):
        tiny_mini_gemini(folder)


class TestLlama(MiniGeminiContract):
    golden = (BARE, prompted("USER: <image>\nthe cup. ASSISTANT:"))

    def build(self, folder):
        # A fourth layer would magnify the rounding of sharpened rows beyond the tolerance: against
        # float64, captured rows differ by 1.1e-5 and eager ones by 0.6e-5.
        tiny_mini_gemini(folder, text="llama", layers=3)


# The mining.


def mined_plainly(mining, tokens, detail):
    """The definition in words: one picture, one token, one cell at a time."""
    grid = math.isqrt(tokens.shape[1])
    cells = detail.shape[-1] // grid
    found = torch.zeros_like(tokens)
    for picture, at in np.ndindex(tokens.shape[:2]):
        top, left = at // grid * cells, at % grid * cells
        query = mining.vlm_uni_query_projector(tokens[picture, at])
        own = detail[picture, :, top : top + cells, left : left + cells].flatten(1).T
        keys = [mining.vlm_uni_aux_projector(cell) for cell in own]
        raw = [float(query @ key) / len(query) ** 0.5 for key in keys]
        powers = [math.exp(one - max(raw)) for one in raw]
        for power, cell in zip(powers, own, strict=True):
            found[picture, at] += power / sum(powers) * mining.vlm_uni_val_projector(cell)
    return found


def test_mining_is_its_definition():
    mining = PatchInfoMining(16, 20)
    for parameter in mining.parameters():
        torch.nn.init.normal_(parameter, std=0.4)
    tokens, detail = torch.randn(2, 9, 16), torch.randn(2, 20, 12, 12)
    with torch.no_grad():
        expected = mined_plainly(mining, tokens, detail)
        assert expected.abs().max() > 0.5
        assert (mining(tokens, detail) - expected).abs().max() < 2e-5


def test_a_part_is_what_its_own_patch_shows():
    rows = torch.arange(12.0).reshape(1, 1, 12, 1).expand(1, 1, 12, 12)
    parts = parts_of(torch.cat([rows, rows.transpose(2, 3)], dim=1), 3)
    assert parts.shape == (1, 9, 16, 2)
    # The sixth of nine: rows 4 to 7, columns 8 to 11.
    assert parts[0, 5, :, 0].tolist() == sorted([4.0, 5.0, 6.0, 7.0] * 4)
    assert parts[0, 5, :, 1].tolist() == [8.0, 9.0, 10.0, 11.0] * 4
    with pytest.raises(ValueError, match="does not divide into 5 x 5"):
        parts_of(torch.zeros(1, 1, 12, 12), 5)


def test_all_four_stages_are_stacked_at_the_first_ones_size():
    config = MiniGeminiConfig(aux_config={"hidden_sizes": STAGES, "depths": [1, 1, 1, 1]})
    tower = HighResolutionTower(config.aux_config).eval()
    seen = []
    for stage in tower.convnext.encoder.stages:
        stage.register_forward_hook(lambda _, __, out: seen.append(out))
    with torch.no_grad():
        stacked = tower(torch.randn(1, 3, 128, 128))
    assert stacked.shape == (1, sum(STAGES), 32, 32)
    assert [(one.shape[1], one.shape[3]) for one in seen] == [(8, 32), (12, 16), (16, 8), (24, 4)]
    assert torch.equal(stacked[:, :8], seen[0])
    # Half a cell inside, a bilinear enlargement by 2 is (3 a + b) / 4 in both directions.
    corner = seen[1][0, :, :2, :2]
    mixed = 0.75 * corner[:, 0] + 0.25 * corner[:, 1]
    expected = 0.75 * mixed[:, 0] + 0.25 * mixed[:, 1]
    assert torch.allclose(stacked[0, 8:20, 1, 1], expected, atol=1e-6)


def test_the_default_config_is_the_large_convnext_at_768_pixels():
    config = MiniGeminiConfig()
    aux = config.aux_config
    assert (aux.hidden_sizes, aux.depths) == ([192, 384, 768, 1536], [3, 3, 27, 3])
    assert (config.image_size_aux, config.vision_config.image_size) == (768, 336)


# The whole model.


def test_real_sizes_show_the_whole_padded_picture(tmp_path):
    """336 and 768 pixels: 24 x 24 tokens of 8 x 8 cells."""
    sizes = {"image_size": 336, "aux_size": 768, "layers": 2, "hidden": 32}
    opened = open_adapter(MiniGeminiAdapter(), str(tiny_mini_gemini(tmp_path / "real", **sizes)))
    shows(opened, (640, 480), (24, 24), (0.0, -80.0, 640.0, 560.0))
    tensors = ask(opened, (640, 480)).tensors
    assert [tensors[name].shape for name in VIEWS] == [(1, 3, 336, 336), (1, 3, 768, 768)]
    assert "shown at two sizes" in opened.model.statements[0]
    module = opened.model.module
    unmixed(module)
    for larger_alone in (False, True):
        if larger_alone:
            # With equal queries, what a part shows decides alone.
            module.model.vision_tower.embeddings.patch_embedding.weight.data.zero_()
        report = paint.probe(opened, paint.embeddings, [(640, 480), (300, 500)])
        report.check()
        assert report.right == report.planned >= 10


tiny = checkpoint(tiny_mini_gemini, layers=2)


def views_of_picture(module):
    config = module.config
    sizes = (config.vision_config.image_size, config.image_size_aux)
    return {name: torch.randn(1, 3, n, n) for name, n in zip(VIEWS, sizes, strict=True)}


def prompt_of(module):
    ids = torch.arange(70)[None]
    ids[:, 3:67] = module.config.image_token_id
    return {"input_ids": ids, "attention_mask": torch.ones_like(ids), **views_of_picture(module)}


def test_generation_with_a_cache_says_what_it_says_without(tiny):
    module = loaded(MiniGeminiForConditionalGeneration, tiny)
    inputs = prompt_of(module)
    written = module.generate(**inputs, max_new_tokens=6, do_sample=False, pad_token_id=256)
    ids = inputs["input_ids"]
    with torch.no_grad():
        for _ in range(6):
            again = {**inputs, "input_ids": ids, "attention_mask": torch.ones_like(ids)}
            logits = module(**again, use_cache=False).logits
            ids = torch.cat([ids, logits[:, -1:].argmax(-1)], dim=1)
    assert written.tolist() == ids.tolist()


def test_one_view_or_a_wrong_number_of_places_is_refused(tiny):
    module = loaded(MiniGeminiForConditionalGeneration, tiny)
    inputs = prompt_of(module)
    with pytest.raises(ValueError, match="pixel_values_aux is missing"):
        module(**{**inputs, "pixel_values_aux": None})
    inputs["input_ids"][0, 3] = 5
    with pytest.raises(ValueError, match="63 image tokens for 1 x 64 features"):
        module(**inputs)


def test_saved_and_loaded_again_nothing_is_missing(tiny, tmp_path):
    module, again = saved_again(MiniGeminiForConditionalGeneration, tiny, tmp_path)
    # Gemma's output head is its embedding, and is stored once.
    assert module.lm_head.weight is module.model.language_model.embed_tokens.weight
    assert again.config.aux_config.hidden_sizes == STAGES
    with pytest.raises(ValueError, match="mini_gemini"):
        AutoConfig.from_pretrained(tmp_path)


def test_half_precision_stays_half_and_finite(tiny):
    module = MiniGeminiForConditionalGeneration.from_pretrained(tiny, dtype=torch.bfloat16).eval()
    inputs = prompt_of(module)
    inputs |= {name: inputs[name].to(torch.bfloat16) for name in VIEWS}
    with torch.no_grad():
        logits = module(**inputs).logits
    assert logits.dtype == torch.bfloat16
    assert logits.isfinite().all()


# The pictures.


@pytest.mark.parametrize("size", [(200, 90), (77, 190), (300, 300)])
def test_both_pictures_come_from_one_padded_square(tiny, size):
    """By hand, with Pillow: pad with the mean colour, enlarge, normalise, interpolate."""
    opened = open_adapter(MiniGeminiAdapter(), str(tiny))
    smooth = np.linspace(0, 255, size[0] * size[1] * 3).reshape(size[1], size[0], 3)
    picture = Picture(smooth.astype(np.uint8))
    tensors = opened.prepare([picture], [Expression(0, "it")]).tensors
    side = max(size)
    mean = torch.tensor([0.48145466, 0.4578275, 0.40821073]).reshape(3, 1, 1)
    spread = torch.tensor([0.26862954, 0.26130258, 0.27577711]).reshape(3, 1, 1)
    square = Image.new("RGB", (side, side), tuple(int(255 * m) for m in mean.flatten().tolist()))
    square.paste(Image.fromarray(picture.pixels), ((side - size[0]) // 2, (side - size[1]) // 2))
    large = torch.from_numpy(np.array(square.resize((256, 256), Image.Resampling.BICUBIC)))
    large = (large.permute(2, 0, 1) / 255 - mean) / spread
    assert (tensors["pixel_values_aux"][0] - large).abs().max() < 1e-4
    # Cell centres of 112 on the pixels of 256, without smoothing.
    at = (np.arange(112) + 0.5) / 112 * 256 - 0.5
    low = np.floor(at).astype(int)
    weight = torch.tensor(at - low, dtype=torch.float32)
    rows = large[:, low] * (1 - weight[:, None]) + large[:, low + 1] * weight[:, None]
    small = rows[..., low] * (1 - weight) + rows[..., low + 1] * weight
    assert (tensors["pixel_values"][0] - small).abs().max() < 1e-4


def test_a_folder_with_clips_own_image_processor_is_padded_all_the_same(tiny, tmp_path):
    shutil.copytree(tiny, tmp_path, dirs_exist_ok=True)
    first = open_adapter(MiniGeminiAdapter(), str(tiny))
    tokenizer = first.model.processor.tokenizer
    LlavaProcessor(CLIPImageProcessorPil(), tokenizer).save_pretrained(tmp_path)
    second = open_adapter(MiniGeminiAdapter(), str(tmp_path))
    one, other = (ask(opened, (150, 90)).tensors for opened in (first, second))
    assert all(torch.equal(one[name], other[name]) for name in VIEWS)


def test_the_geometry_is_no_choice(tiny):
    with pytest.raises(InputError, match="no option 'geometry'"):
        open_adapter(MiniGeminiAdapter(), str(tiny), options={"geometry": "crop"})
