"""DeepSeek-VL passes the public contract, with one tower and with two."""

import json
from typing import Any

import pytest
import torch
import transformers as hf
from building import even_out, fields, save, siglip, square, text_part, vocabulary
from families import ask, contract, opens, prompted, rows_of, shows, views

from vg_engine.model_adapters.families.deepseek_vl import DeepseekVLAdapter
from vg_engine.model_adapters.families.deepseek_vl_hybrid import DeepseekVLHybridAdapter
from vg_engine.testing.tiny import save_tiny

IMAGE, END = "<image_placeholder>", "<｜end▁of▁sentence｜>"
SPOKEN = (
    "You are a helpful language and vision assistant. You are able to understand the visual "
    "content that the user provides, and assist the user with a variety of tasks using natural "
    "language.\n\n"
)
# Renders what the template of transformers' converters does: its sentence always comes first, the
# text follows the picture at once, and what is not the user's ends with the tokenizer's own mark.
CHAT = (
    f"{SPOKEN}{{% for message in messages %}}{{{{ message['role'].capitalize() + ': ' }}}}"
    "{% for content in message['content'] %}"
    "{% if content['type'] == 'image' %}<image_placeholder>{% else %}{{ content['text'] }}"
    "{% endif %}{% endfor %}"
    f"{{{{ '\n\n' if message['role'] == 'user' else '{END}' }}}}{{% endfor %}}"
    "{% if add_generation_prompt %}Assistant:{% endif %}"
)
GOLDEN = (
    prompted(f"Look. {IMAGE}\nthe cup.", form="bare", system="Look."),
    prompted(
        f"{SPOKEN}System: See.{END}User: {IMAGE}which cup?\n\nAssistant:",
        "which cup?",
        system="See.",
    ),
    prompted(f"{SPOKEN}User: {IMAGE}the cup.\n\nAssistant:"),
)
SIDE = 96


def parts(side: int, layers: int) -> tuple[Any, dict[str, Any], dict[str, Any]]:
    """A tokenizer, and the settings of processor and config that both models share."""
    special = f"bos=<｜begin▁of▁sentence｜> eos={END} pad=<pad>"
    tokenizer = vocabulary(special, {"image_token": IMAGE})
    settings = {"chat_template": CHAT, "num_image_tokens": (side // 16) ** 2}
    config = {
        "vision_config": siglip(side, 16),
        "text_config": hf.LlamaConfig(**text_part(tokenizer, layers=layers)),
        "image_token_id": tokenizer.convert_tokens_to_ids(IMAGE),
    }
    return tokenizer, settings, config


def tiny(folder, *, side=SIDE, layers=4):
    """A tiny DeepSeek-VL; 384 pixels make the real 24 x 24 cells."""
    tokenizer, settings, shared = parts(side, layers)
    images = hf.DeepseekVLImageProcessorPil(size=square(side))
    processor = hf.DeepseekVLProcessor(images, tokenizer, **settings)
    config = hf.DeepseekVLConfig(**shared)
    return save(hf.DeepseekVLForConditionalGeneration, config, processor, folder)


def tiny_hybrid(folder, *, side=SIDE, large=256, layers=4):
    """A tiny hybrid; 384 and 1024 pixels are the real sizes."""
    tokenizer, settings, shared = parts(side, layers)
    images = hf.DeepseekVLHybridImageProcessorPil(size=square(side), high_res_size=square(large))
    processor = hf.DeepseekVLHybridProcessor(images, tokenizer, **settings)
    tower = hf.SamVisionConfig(
        **fields("""hidden_size=32 output_channels=16 num_hidden_layers=2 num_attention_heads=4
            window_size=7 global_attn_indexes=[1] mlp_dim=64 initializer_range=0.02"""),
        image_size=large,
    )
    config = hf.DeepseekVLHybridConfig(**shared, high_res_vision_config=tower)
    torch.manual_seed(0)
    module = hf.DeepseekVLHybridForConditionalGeneration(config)
    # Zero at first, and learnt: so that the tower's inner layer takes part.
    torch.nn.init.constant_(module.model.high_res_vision_alpha, 0.5)
    return save_tiny(module, processor, folder)


FOREIGN = ("num_image_tokens", 35, (36, 35))
TestDeepseekVL = contract(DeepseekVLAdapter, GOLDEN, tiny, foreign=FOREIGN)


class TestHybrid(contract(DeepseekVLHybridAdapter, GOLDEN, tiny_hybrid, foreign=FOREIGN)):
    def unmix(self, opened):
        """Even the kernels out, too: random ones move SAM's half by chance."""
        super().unmix(opened)
        even_out(opened.model.module)

    def test_both_towers_are_shown_the_same_square(self, opened):
        """Noise in the middle, plain border: at either size it begins at the same share."""
        inputs = ask(opened, (300, 101))
        starts = []
        for name in ("pixel_values", "high_res_pixel_values"):
            lines = inputs.tensors[name][0].std(dim=(0, 2))
            varied = (lines > lines.max() / 2).nonzero().ravel()
            starts.append([float(varied[0]) / len(lines), float(varied[-1] + 1) / len(lines)])
        (view,) = opened.views(inputs)[0]
        _, top, _, bottom = view.to_original.inverse_box((0.0, 0.0, 300.0, 101.0))
        assert starts[1] == pytest.approx([top / 6, bottom / 6], abs=1.5 / 256)
        assert starts[0] == pytest.approx(starts[1], abs=1.5 / SIDE)


def test_a_photograph_lies_in_the_middle_of_a_square(tmp_path):
    opened = opens(DeepseekVLAdapter, tiny(tmp_path / "m", side=384, layers=1))
    shows(opened, (640, 480), (24, 24), (0.0, -80.0, 640.0, 560.0))
    # 401 / 640 of 384 pixels are rounded to 241; 71 of the 143 pixels of border are above.
    (view,) = views(opened, (640, 401))
    assert view.extent[1] == pytest.approx(-71 * 401 / 241)


def test_the_larger_size_rounds_for_both(tmp_path):
    folder = tiny_hybrid(tmp_path / "m", side=384, large=1024, layers=1)
    (view,) = views(opens(DeepseekVLHybridAdapter, folder), (640, 401))
    assert view.shape == (24, 24)
    # 642 of 1024 pixels, behind 191 of border.
    assert view.extent[1] == pytest.approx(-191 * 401 / 642)


HYBRID = fields("""high_res_size={"height":1024,"width":1024} resample=2
    high_res_image_mean=[0.48145466,0.4578275,0.40821073]
    high_res_image_std=[0.26862954,0.26130258,0.27577711]""")


def loose(weights):
    """A head of its own, and SigLIP one level deeper, as transformers' converters wrote them."""
    weights["lm_head.weight"] = weights["model.language_model.embed_tokens.weight"].flip(0)


@pytest.mark.parametrize(
    ("adapter", "name", "more"),
    [(DeepseekVLAdapter, "DeepseekVL", {}), (DeepseekVLHybridAdapter, "DeepseekVLHybrid", HYBRID)],
)
def test_published_files_give_the_same_rows(tmp_path, published, adapter, name, more):
    """The folder's config says nothing of the head: transformers would tie it."""
    large = {"large": 1024} if more else {}
    folder = (tiny_hybrid if more else tiny)(tmp_path / "m", side=384, layers=1, **large)
    stated = json.loads((folder / "processor_config.json").read_text(encoding="utf-8"))
    images = {**stated["image_processor"], "image_processor_type": f"{name}ImageProcessor", **more}
    expected = None if more else rows_of(adapter, folder, "chat")
    settings = {"num_image_tokens": 576, "processor_class": f"{name}Processor"}
    published(
        folder,
        images,
        settings=settings,
        renamed=[(r"^model\.vision_model\.", "model.vision_model.vision_model.")],
        config=lambda config: config.pop("tie_word_embeddings", None),
        add=loose,
    )
    found = rows_of(adapter, folder, "chat")
    # The larger picture is made here as the converter's settings say, not as ours do.
    assert expected is None or (found - expected).abs().max() < 1e-6
