"""What the README says is run: commands in-process, snippets as they stand, figures compared."""

from __future__ import annotations

import json
import pickle
import re
import shlex
import shutil
import sys
import tomllib
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from skimage import data
from typer.testing import CliRunner

import vg_engine
from vg_engine.cli.main import app
from vg_engine.testing.tiny import byte_tokenizer, sharpen, tiny_internvl, tiny_llava

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
CARD = (ROOT / "registry/embedded/README.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", README, flags=re.MULTILINE | re.DOTALL)


# The lines of a block follow each other in one folder.
COMMANDS = [
    lines
    for block in blocks("sh")
    if (lines := [line for line in block.splitlines() if "vg-engine" in line.split()[0]])
]
SNIPPETS = blocks("python")


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with what the README names: the examples, a photograph, two checkpoints."""
    monkeypatch.chdir(tmp_path)
    shutil.copytree(ROOT / "examples", "examples")
    Image.fromarray(data.coffee()).save("photo.jpg")
    Path("queries.jsonl").write_text('{"id": 7, "image": "photo.jpg", "text": "the cup"}\n')
    # LLaVA-1.5's published heads must exist, so the stand-in has that many layers and heads.
    tiny_llava(Path("checkpoints/llava-1.5-7b-hf"), layers=15, heads=32, hidden=256)
    tiny_internvl(Path("checkpoints/InternVL3-1B-hf"))
    return tmp_path


def test_every_kind_of_block_is_there() -> None:
    assert sorted(map(len, COMMANDS)) == [1, 4, 4]
    assert len(SNIPPETS) == 2


def refer(root: Path) -> None:
    """RefCOCO's files with six pictures: in each, two halves that are spoken of."""
    pictures = root / "images/mscoco/images/train2014"
    pictures.mkdir(parents=True)
    (root / "refcoco").mkdir()
    images, annotations, refs = [], [], []
    coffee = Image.fromarray(data.coffee()).resize((96, 64))
    for number in range(6):
        name = f"COCO_train2014_{number:012d}.jpg"
        coffee.rotate(60 * number).save(pictures / name)
        images.append({"id": number, "file_name": name, "width": 96, "height": 64})
        for half, word in enumerate(("left", "right")):
            key, x = 2 * number + half, 48 * half
            corners = [x, 0, x + 48, 0, x + 48, 64, x, 64]
            annotations.append(
                {"id": key, "image_id": number, "category_id": 1, "bbox": [x, 0, 48, 64],
                 "segmentation": [corners], "area": 48 * 64, "iscrowd": 0}
            )  # fmt: skip
            sentence = {"raw": word, "sent": f"{word} half", "sent_id": key, "tokens": [word]}
            refs.append(
                {"ref_id": key, "ann_id": key, "category_id": 1, "image_id": number,
                 "file_name": name, "split": ("train", "val", "testA")[number % 3],
                 "sent_ids": [key], "sentences": [sentence]}
            )  # fmt: skip
    (root / "refcoco/refs(unc).p").write_bytes(pickle.dumps(refs, protocol=2))
    instances = {"images": images, "annotations": annotations}
    instances["categories"] = [{"id": 1, "name": "cup"}]
    (root / "refcoco/instances.json").write_text(json.dumps(instances))


@pytest.mark.parametrize("commands", COMMANDS, ids=lambda lines: lines[0][:40])
def test_the_commands_of_the_readme_run(
    here: Path, commands: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    refer(Path("data/refer"))
    monkeypatch.setenv("VG_ENGINE_HOME", str(here / "home"))
    for command in commands:
        program, *arguments = shlex.split(command)
        assert Path(program).name == "vg-engine"
        done = CliRunner().invoke(app, arguments)
        assert done.exit_code == 0, f"{command}: {done.output}"
        assert done.stdout.strip()


def test_the_make_lines_are_what_ci_runs() -> None:
    told = [
        line for block in blocks("sh") for line in block.splitlines() if line.startswith("make")
    ]
    run = (ROOT / ".ci/run").read_text(encoding="utf-8").splitlines()
    assert told == ["make demo", "make test"]
    assert [line for line in run if line.startswith("make")] == told


def test_the_six_lines_ground_the_circle(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    snippet = SNIPPETS[0]
    assert len([line for line in snippet.splitlines() if line.strip()]) <= 6
    scope: dict[str, Any] = {}
    exec(compile(snippet, "README.md", "exec"), scope)
    answer = scope["answer"]
    assert isinstance(answer, vg_engine.Grounding)
    left, top, right, bottom = answer.box
    # The small red circle of examples/scene.png, whose middle is at (146, 63).
    assert left < 146 < right
    assert top < 63 < bottom
    assert capsys.readouterr().out


def tiny_deepseek(folder: Path) -> None:
    from transformers import (
        DeepseekVLConfig,
        DeepseekVLForConditionalGeneration,
        DeepseekVLProcessor,
        LlamaConfig,
        SiglipVisionConfig,
    )
    from transformers.models.deepseek_vl.image_processing_pil_deepseek_vl import (
        DeepseekVLImageProcessorPil,
    )

    image = "<image_placeholder>"
    tokenizer = byte_tokenizer(
        ["<pad>", "<s>", "</s>", image],
        pad_token="<pad>",
        bos_token="<s>",
        eos_token="</s>",
        extra_special_tokens={"image_token": image},
    )
    torch.manual_seed(0)
    vision = SiglipVisionConfig(
        hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=2,
        image_size=96, patch_size=16,
    )  # fmt: skip
    text = LlamaConfig(
        hidden_size=64, intermediate_size=128, num_hidden_layers=3, num_attention_heads=4,
        num_key_value_heads=4, vocab_size=len(tokenizer),
    )  # fmt: skip
    model = DeepseekVLForConditionalGeneration(
        DeepseekVLConfig(
            text_config=text,
            vision_config=vision,
            image_token_id=tokenizer.convert_tokens_to_ids(image),
        )
    )
    sharpen(model.get_decoder())
    model.save_pretrained(folder)
    DeepseekVLProcessor(
        DeepseekVLImageProcessorPil(size={"height": 96, "width": 96}),
        tokenizer,
        num_image_tokens=36,
    ).save_pretrained(folder)


def test_the_adapter_grounds_with_its_model(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    snippet = SNIPPETS[1]
    assert len(snippet.splitlines()) <= 30
    module = ModuleType("your_package")
    monkeypatch.setitem(sys.modules, "your_package", module)
    exec(compile(snippet, "README.md", "exec"), module.__dict__)
    (entry,) = blocks("toml")
    stated = tomllib.loads(entry)["project"]["entry-points"]["vg_engine.adapters"]
    assert stated == {"deepseek-vl": "your_package:DeepseekVLAdapter"}
    adapter: Any = module.__dict__["DeepseekVLAdapter"]
    tiny_deepseek(Path("folder"))
    with vg_engine.load("folder", adapter=adapter) as engine:
        answer = engine.ground("photo.jpg", "the cup")
        assert answer.mask is not None
        assert answer.mask.shape == (400, 600)
        # The 600 x 400 picture is padded above and below: rows of padding are no answer.
        (observed,) = engine.maps("photo.jpg", "the cup")
        assert observed.maps.shape == (6, 6)
        extent = observed.maps.to_original.box((0.0, 0.0, 6.0, 6.0))
        assert np.allclose(extent, (0, -100, 600, 500))


def test_the_figures_are_those_of_the_model_card() -> None:
    table = re.search(r"<!-- exam -->\n(.+?)<!-- /exam -->", README, flags=re.DOTALL)
    assert table is not None
    rows = [line for line in table[1].splitlines() if line.startswith("|")]
    assert len(rows) > 4
    assert all(row in CARD for row in rows)


def test_what_the_readme_links_to_exists() -> None:
    links = re.findall(r"\]\(([^)#]+)\)", README)
    assert len(links) > 2
    for link in links:
        if not link.startswith("http"):
            assert (ROOT / link).exists(), link
