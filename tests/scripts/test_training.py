"""The training script: repeatable, resumable, its packed questions as they would be alone."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

SCRIPTS = Path(__file__).resolve().parents[2] / "scripts" / "embedded"
TINY = {"width": 32, "vision_layers": 1, "text_layers": 2, "heads": 4}


@pytest.fixture(scope="module")
def scripts() -> Iterator[Any]:
    """The modules of scripts/embedded, which are no package."""
    sys.path.insert(0, str(SCRIPTS))
    names = ("attention", "model", "packing", "questions", "tower", "train", "vocabulary")
    loaded = {name: __import__(name) for name in names}
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield type("Scripts", (), loaded)
    torch.set_num_threads(threads)
    sys.path.remove(str(SCRIPTS))
    for name in names:
        del sys.modules[name]


def settings(scripts: Any, **changes: Any) -> Any:
    plain = {
        "tower_steps": 3, "tower_batch": 2, "steps": 6, "batch": 2, "room": 60, "warmup": 2,
        "image_size": 32, "patch_size": 8,
        "architecture": TINY,
    }  # fmt: skip
    return scripts.train.Settings(**{**plain, **changes})


def trained(scripts: Any, out: Path, trainer: Any) -> dict[str, torch.Tensor]:
    scripts.train.run(trainer, out, prefetch=False, every=2, minutes=60)
    return dict(trainer.model.state_dict())


def same(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)


@pytest.mark.parametrize(("optimizer", "stop"), [("adamw", 2), ("adamw", 5), ("muon", 5)])
def test_a_resumed_run_equals_an_undisturbed_one(
    scripts: Any, tmp_path: Path, optimizer: str, stop: int
) -> None:
    chosen = settings(scripts, optimizer=optimizer)
    whole = trained(scripts, tmp_path / "whole", scripts.train.Trainer(chosen))
    again = trained(scripts, tmp_path / "again", scripts.train.Trainer(chosen))
    assert same(whole, again)

    broken = scripts.train.Trainer(chosen)
    for packed in scripts.train.batches(chosen, 0, prefetch=False):
        broken.train_step(packed)
        if broken.step == stop:
            break
    broken.save(tmp_path / "broken" / "checkpoint.pt")
    assert not list((tmp_path / "broken").glob("*.tmp"))
    resumed = scripts.train.Trainer(chosen)
    resumed.load(tmp_path / "broken" / "checkpoint.pt")
    assert resumed.step == stop
    assert same(whole, trained(scripts, tmp_path / "broken", resumed))
    other = scripts.train.Trainer(settings(scripts, seed=1, optimizer=optimizer))
    assert not same(whole, trained(scripts, tmp_path / "other", other))


def test_a_checkpoint_of_other_settings_is_refused(scripts: Any, tmp_path: Path) -> None:
    trainer = scripts.train.Trainer(settings(scripts))
    trainer.save(tmp_path / "checkpoint.pt")
    with pytest.raises(ValueError, match="other settings"):
        scripts.train.Trainer(settings(scripts, rate=1.0)).load(tmp_path / "checkpoint.pt")


@pytest.mark.parametrize("seed", [1_000, 2_000])
def test_calibration_and_exam_seeds_are_refused(scripts: Any, seed: int) -> None:
    with pytest.raises(ValueError, match="calibration and exam"):
        settings(scripts, seed=seed)


def test_the_worker_draws_the_same_batches(scripts: Any) -> None:
    chosen = settings(scripts, tower_steps=2, steps=2)
    here = list(scripts.train.batches(chosen, 0, prefetch=False))
    packer = scripts.train.make_packer(chosen)
    for step in range(4):
        alone = scripts.train.draw_batch(packer, step, chosen)
        assert torch.equal(here[step].ids, alone.ids)
        assert torch.equal(here[step].pixels, alone.pixels)
        assert torch.equal(here[step].words, alone.words)
        assert not torch.equal(here[step].pixels, here[step - 1].pixels)
    assert [packed.ids.shape[1] > 0 for packed in here] == [False, False, True, True]


def test_the_words_of_a_place_are_those_of_the_objects_there(scripts: Any) -> None:
    scenes = __import__("vg_engine.plugins.datasets.scenes", fromlist=["x"])
    layout = scenes.sample_layout(np.random.default_rng(3), 6)
    targets = scripts.tower.word_targets(layout, scenes.SIDE)
    for row, row_word in enumerate(scripts.vocabulary.ROWS):
        for column, column_word in enumerate(scripts.vocabulary.COLUMNS):
            place = f"{row_word} {column_word}"
            there = [o for o in layout if scripts.questions.position_words(o, 224) == place]
            words = {word for o in there for word in (o.colour, o.shape, o.size)}
            told = targets[3 * row + column]
            assert words == {w for w, t in zip(scripts.tower.WORDS, told, strict=True) if t}


def test_the_first_lesson_leaves_the_language_model_alone(scripts: Any) -> None:
    chosen = settings(scripts)
    trainer = scripts.train.Trainer(chosen)
    before = {k: v.clone() for k, v in trainer.model.state_dict().items()}
    trainer.train_step(scripts.train.draw_batch(scripts.train.make_packer(chosen), 0, chosen))
    changed = {
        k.split(".")[1] for k, v in trainer.model.state_dict().items() if not v.equal(before[k])
    }
    assert changed == {"vision_tower"}


def test_packed_questions_see_what_they_see_alone(scripts: Any) -> None:
    chosen = settings(scripts, batch=1)
    model = scripts.train.Trainer(chosen).model.eval()
    model.set_attn_implementation("eager")
    packed = scripts.train.make_packer(chosen).batch_at(0, scripts.packing.CURRICULUM[-1])
    block = torch.zeros(packed.mask.shape).masked_fill_(~packed.mask, -1e9)
    with torch.no_grad():
        inputs = {"input_ids": packed.ids, "pixel_values": packed.pixels, "use_cache": False}
        together = model(**inputs, attention_mask=block, position_ids=packed.positions).logits[0]
        tasks = packed.tasks[0]
        assert len(tasks) > 2
        prefix = int((packed.ids[0] == scripts.vocabulary.IMAGE).nonzero()[-1]) + 1
        for _, first, last in tasks:
            seen = packed.mask[0, 0, last - 1].nonzero().flatten()
            ids = packed.ids[:, seen]
            assert packed.positions[0, seen].tolist() == list(range(len(seen)))
            assert int(seen[prefix - 1]) == prefix - 1
            alone = model(input_ids=ids, pixel_values=packed.pixels, use_cache=False).logits[0]
            count = last - first
            assert torch.allclose(alone[-count:], together[first:last], atol=1e-4)


def test_the_training_attention_is_attention(scripts: Any) -> None:
    torch.manual_seed(0)
    q, k, v = (torch.randn(2, 4, 9, 8, dtype=torch.float64, requires_grad=True) for _ in range(3))
    mask = torch.zeros(2, 9, 9, dtype=torch.float64)
    mask[:, torch.triu(torch.ones(9, 9), 1).bool()] = -1e9
    ours = scripts.attention._Blocks.apply(q, k, v, mask)
    theirs = torch.nn.functional.scaled_dot_product_attention(q, k, v, attn_mask=mask[:, None])
    assert torch.allclose(ours, theirs)
    weight = torch.randn_like(ours)
    for a, b in zip(
        torch.autograd.grad((ours * weight).sum(), (q, k, v)),
        torch.autograd.grad((theirs * weight).sum(), (q, k, v)),
        strict=True,
    ):
        assert torch.allclose(a, b)


def test_answers_are_true_of_the_scene(scripts: Any) -> None:
    scenes = __import__("vg_engine.plugins.datasets.scenes", fromlist=["sample_layout"])
    tasks = set()
    for index in range(60):
        rng = np.random.default_rng([0, index])
        layout = scenes.sample_layout(rng, 2 + index % 5)
        about = scripts.questions.SceneQuestions(layout, scenes.SIDE, scenes.KINDS, rng)
        for _ in range(20):
            question = about.draw()
            if question is None:
                continue
            tasks.add(question.task.split(":")[0])
            words = set(question.text.rstrip(".?").split())
            if question.task.startswith(("bare", "where")):
                said = words - {"the", "object", "where", "is"}
                fitting = [o for o in layout if said <= {o.colour, o.shape, o.size}]
                assert len(fitting) == 1
                place = scripts.questions.position_words(fitting[0], scenes.SIDE)
                assert question.answer.startswith(place)
            if question.task == "is there":
                said = words - {"is", "there", "a", "object"}
                found = any(said <= {o.colour, o.shape, o.size} for o in layout)
                assert question.answer == ("yes" if found else "no")
    assert {"bare", "where", "what colour", "what at", "is there", "how many"} <= tasks


def test_every_word_is_known_and_split_as_the_tokenizer_does(scripts: Any) -> None:
    tokenizer = scripts.vocabulary.build_tokenizer()
    known = scripts.vocabulary.build_vocabulary()
    rng = np.random.default_rng(0)
    for _ in range(100):
        question = scripts.questions.text_question(rng)
        words = scripts.vocabulary.split_words(f"{question.text} {question.answer}")
        ids = tokenizer(f"{question.text} {question.answer}")["input_ids"]
        assert ids == [scripts.vocabulary.BOS, *(known[word] for word in words)]


def test_the_exported_folder_loads_as_llava(scripts: Any, tmp_path: Path) -> None:
    from PIL import Image
    from transformers import AutoProcessor, LlavaForConditionalGeneration

    chosen = settings(scripts)
    trainer = scripts.train.Trainer(chosen)
    scripts.model.export(trainer.model, tmp_path)
    model = LlavaForConditionalGeneration.from_pretrained(tmp_path, dtype=torch.float32).eval()
    processor = AutoProcessor.from_pretrained(tmp_path)
    packer = scripts.train.make_packer(chosen)
    scene = __import__("vg_engine.plugins.datasets.scenes", fromlist=["x"]).make_scene(0, 0)
    talk = [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "the x."}]}]
    prompt = processor.apply_chat_template(talk, add_generation_prompt=True)
    assert prompt == f"{scripts.vocabulary.SYSTEM} USER: <image>\nthe x. ASSISTANT:"
    inputs = processor(images=Image.fromarray(scene.image), text=prompt, return_tensors="pt")
    start = packer.prefixes[True]
    assert inputs["input_ids"][0, : len(start)].tolist() == start
    assert np.allclose(inputs["pixel_values"][0], packer.pixels(scene.image), atol=1e-5)
    assert model(**inputs).logits.shape[-1] == len(packer.vocabulary)
    weights = dict(trainer.model.state_dict())
    loaded = dict(model.state_dict())
    assert weights.keys() == loaded.keys()
    assert all(torch.allclose(weights[k], loaded[k], atol=2e-3) for k in weights)


def test_rate_and_curriculum(scripts: Any) -> None:
    chosen = scripts.train.Settings(tower_steps=200, steps=1000, warmup=100)
    rates = [scripts.train.learning_rate(step, chosen) for step in (0, 120, 199, 200, 299, 1199)]
    assert rates == pytest.approx([0.02, 2.0, 2 / 60, 0.01, 1.0, 0.0025])
    stages = [scripts.train.stage_at(step, chosen) for step in (0, 199, 200, 270, 340, 440, 1199)]
    assert stages == [None, None, *scripts.packing.CURRICULUM, scripts.packing.CURRICULUM[-1]]
