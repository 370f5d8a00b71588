"""What the README says is run: commands in-process, snippets as they stand, figures compared."""

import re
import shlex
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
import transformers as hf
from transformers.models.deepseek_vl.image_processing_pil_deepseek_vl import (
    DeepseekVLImageProcessorPil,
)

import vg_engine
from vg_engine.testing.tiny import byte_tokenizer, save_tiny, text_sizes, tiny_internvl, tiny_llava

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def readme(page):
    return page("../README.md")


def lines_of(readme, start):
    """The lines of each shell block that start so."""
    blocks = [re.findall(rf"^{start}.*", block, re.MULTILINE) for block in readme.blocks("sh")]
    return [lines for lines in blocks if lines]


@pytest.fixture
def here(world):
    """The folder with what the README names."""
    Path("queries.jsonl").write_text('{"id": 7, "image": "photo.jpg", "text": "the cup"}\n')
    # LLaVA-1.5's published heads must exist, so the stand-in has that many layers and heads.
    tiny_llava(Path("checkpoints/llava-1.5-7b-hf"), layers=15, heads=32, hidden=256)
    tiny_internvl(Path("checkpoints/InternVL3-1B-hf"))


def test_the_commands_of_the_readme_run(readme, here, call) -> None:
    blocks = lines_of(readme, r"\S*vg-engine ")
    assert sorted(map(len, blocks)) == [1, 6]
    for command in (line for lines in blocks for line in lines):
        assert call(*shlex.split(command)[1:]).stdout.strip(), command


def test_the_make_lines_are_what_ci_runs(readme) -> None:
    told = [line for lines in lines_of(readme, "make") for line in lines]
    run = (ROOT / ".ci/run").read_text(encoding="utf-8").splitlines()
    assert told == ["make demo", "make test"] == [line for line in run if line.startswith("make")]


def test_the_six_lines_ground_the_circle(readme, here, capsys) -> None:
    snippets = readme.blocks("python")
    assert len(snippets) == 1
    assert len([line for line in snippets[0].splitlines() if line.strip()]) <= 6
    answer = readme.run(0)["answer"]
    assert isinstance(answer, vg_engine.Grounding)
    left, top, right, bottom = answer.box
    # The small red circle of examples/scene.png, whose middle is at (146, 63).
    assert left < 146 < right
    assert top < 63 < bottom
    assert capsys.readouterr().out


def tiny_deepseek(folder):
    image = "<image_placeholder>"
    tokenizer = byte_tokenizer(
        ["<pad>", "<s>", "</s>", image],
        pad_token="<pad>", bos_token="<s>", eos_token="</s>",
        extra_special_tokens={"image_token": image},
    )  # fmt: skip
    torch.manual_seed(0)
    vision = hf.SiglipVisionConfig(
        hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=2,
        image_size=96, patch_size=16,
    )  # fmt: skip
    config = hf.DeepseekVLConfig(
        text_config=hf.LlamaConfig(**text_sizes(tokenizer, layers=3)),
        vision_config=vision,
        image_token_id=tokenizer.convert_tokens_to_ids(image),
    )
    images = DeepseekVLImageProcessorPil(size={"height": 96, "width": 96})
    processor = hf.DeepseekVLProcessor(images, tokenizer, num_image_tokens=36)
    save_tiny(hf.DeepseekVLForConditionalGeneration(config), processor, Path(folder))


def test_the_adapter_of_the_guide_grounds_with_its_model(page, world, monkeypatch) -> None:
    guide = page("write-an-adapter.md")
    (place,) = [i for i, text in enumerate(guide.blocks("python")) if "DeepseekVLAd" in text]
    assert len(guide.blocks("python")[place].splitlines()) <= 30
    monkeypatch.setitem(sys.modules, "your_package", ModuleType("your_package"))
    adapter = guide.run(place, name="your_package")["DeepseekVLAdapter"]
    tiny_deepseek("folder")
    with vg_engine.load("folder", adapter=adapter) as engine:
        answer = engine.ground("photo.jpg", "the cup")
        assert answer.mask is not None
        assert answer.mask.shape == (400, 600)
        # The 600 x 400 picture is padded above and below: rows of padding are no answer.
        (observed,) = engine.maps("photo.jpg", "the cup")
        assert observed.maps.shape == (6, 6)
        extent = observed.maps.to_original.box((0.0, 0.0, 6.0, 6.0))
        assert np.allclose(extent, (0, -100, 600, 500))


def test_the_figures_are_those_of_the_model_card(readme) -> None:
    rows = [line for line in readme.marked("exam").splitlines() if line.startswith("|")]
    assert len(rows) > 4
    card = (ROOT / "registry/embedded/README.md").read_text(encoding="utf-8")
    # The readme shows the first columns of the model card's table.
    assert all(row.removesuffix("|") in card for row in rows)


def test_a_stranger_reads_it_in_minutes(readme) -> None:
    assert len(readme.text.split()) <= 900
