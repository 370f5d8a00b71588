"""The training script: repeatable, resumable, its packed questions as they would be alone."""

import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import AutoProcessor, LlavaForConditionalGeneration

from vg_engine.plugins.datasets import scenes

SCRIPTS = Path(__file__).resolve().parents[2] / "scripts" / "embedded"
TINY = {"width": 32, "vision_layers": 1, "text_layers": 2, "heads": 4}


@pytest.fixture(scope="module")
def scripts():
    """The modules of scripts/embedded, which are no package."""
    sys.path.insert(0, str(SCRIPTS))
    names = ("attention", "model", "packing", "questions", "tower", "train", "vocabulary")
    loaded = {name: __import__(name) for name in names}
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield SimpleNamespace(**loaded)
    torch.set_num_threads(threads)
    sys.path.remove(str(SCRIPTS))
    for name in names:
        del sys.modules[name]


@pytest.fixture
def train(scripts):
    return scripts.train


@pytest.fixture
def settings(train):
    plain = {
        "tower_steps": 3, "tower_batch": 2, "steps": 6, "batch": 2, "room": 60, "warmup": 2,
        "image_size": 32, "patch_size": 8, "architecture": TINY,
    }  # fmt: skip
    return lambda **changes: train.Settings(**{**plain, **changes})


def same(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)


@pytest.mark.parametrize(("optimizer", "stop"), [("adamw", 2), ("adamw", 5), ("muon", 5)])
def test_a_resumed_run_equals_an_undisturbed_one(train, settings, tmp_path, optimizer, stop):
    chosen = settings(optimizer=optimizer)

    def trained(name, trainer):
        train.run(trainer, tmp_path / name, prefetch=False, every=2, minutes=60)
        return dict(trainer.model.state_dict())

    whole = trained("whole", train.Trainer(chosen))
    assert same(whole, trained("again", train.Trainer(chosen)))

    checkpoint = tmp_path / "broken" / "checkpoint.pt"
    broken = train.Trainer(chosen)
    for packed in train.batches(chosen, 0, prefetch=False):
        broken.train_step(packed)
        if broken.step == stop:
            break
    broken.save(checkpoint)
    assert not list(checkpoint.parent.glob("*.tmp"))
    resumed = train.Trainer(chosen)
    resumed.load(checkpoint)
    assert resumed.step == stop
    other = train.Trainer(settings(seed=1, optimizer=optimizer))
    with pytest.raises(ValueError, match="other settings"):
        other.load(checkpoint)
    assert same(whole, trained("broken", resumed))
    assert not same(whole, trained("other", other))


def test_the_worker_draws_the_same_batches_never_of_exams(train, settings) -> None:
    for seed in (1_000, 2_000):
        with pytest.raises(ValueError, match="calibration and exam"):
            settings(seed=seed)
    chosen = settings(tower_steps=2, steps=2)
    here = list(train.batches(chosen, 0, prefetch=False))
    packer = train.make_packer(chosen)
    for step in range(4):
        alone = train.draw_batch(packer, step, chosen)
        for part in ("ids", "pixels", "words"):
            assert torch.equal(getattr(here[step], part), getattr(alone, part))
        assert not torch.equal(here[step].pixels, here[step - 1].pixels)
    assert [packed.ids.shape[1] > 0 for packed in here] == [False, False, True, True]


def test_the_words_of_a_place_are_those_of_the_objects_there(scripts) -> None:
    layout = scenes.sample_layout(np.random.default_rng(3), 6)
    targets = scripts.tower.word_targets(layout, scenes.SIDE)
    rows, columns = scripts.vocabulary.ROWS, scripts.vocabulary.COLUMNS
    places = [f"{row} {column}" for row in rows for column in columns]
    for place, told in zip(places, targets, strict=True):
        there = [o for o in layout if scripts.questions.position_words(o, 224) == place]
        words = {word for o in there for word in (o.colour, o.shape, o.size)}
        assert words == {w for w, t in zip(scripts.tower.WORDS, told, strict=True) if t}


def test_the_first_lesson_leaves_the_language_model_alone(train, settings) -> None:
    chosen = settings()
    trainer = train.Trainer(chosen)
    before = {k: v.clone() for k, v in trainer.model.state_dict().items()}
    trainer.train_step(train.draw_batch(train.make_packer(chosen), 0, chosen))
    after = trainer.model.state_dict()
    changed = {k.split(".")[1] for k, v in after.items() if not v.equal(before[k])}
    assert changed == {"vision_tower"}


def test_packed_questions_see_what_they_see_alone(scripts, train, settings) -> None:
    chosen = settings(batch=1)
    model = train.Trainer(chosen).model.eval()
    model.set_attn_implementation("eager")
    packed = train.make_packer(chosen).batch_at(0, scripts.packing.CURRICULUM[-1])
    block = torch.zeros(packed.mask.shape).masked_fill_(~packed.mask, -1e9)
    shown = {"pixel_values": packed.pixels, "use_cache": False}
    with torch.no_grad():
        how = {"attention_mask": block, "position_ids": packed.positions}
        together = model(input_ids=packed.ids, **shown, **how).logits[0]
        tasks = packed.tasks[0]
        assert len(tasks) > 2
        prefix = int((packed.ids[0] == scripts.vocabulary.IMAGE).nonzero()[-1]) + 1
        for _, first, last in tasks:
            seen = packed.mask[0, 0, last - 1].nonzero().flatten()
            assert packed.positions[0, seen].tolist() == list(range(len(seen)))
            assert int(seen[prefix - 1]) == prefix - 1
            alone = model(input_ids=packed.ids[:, seen], **shown).logits[0]
            assert torch.allclose(alone[first - last :], together[first:last], atol=1e-4)


def test_the_training_attention_is_attention(scripts) -> None:
    torch.manual_seed(0)
    parts = [torch.randn(2, 4, 9, 8, dtype=torch.float64, requires_grad=True) for _ in range(3)]
    mask = torch.zeros(2, 9, 9, dtype=torch.float64)
    mask[:, torch.triu(torch.ones(9, 9), 1).bool()] = -1e9
    ours = scripts.attention._Blocks.apply(*parts, mask)
    theirs = torch.nn.functional.scaled_dot_product_attention(*parts, attn_mask=mask[:, None])
    assert torch.allclose(ours, theirs)
    weight = torch.randn_like(ours)
    grads = [torch.autograd.grad((one * weight).sum(), parts) for one in (ours, theirs)]
    assert all(torch.allclose(a, b) for a, b in zip(*grads, strict=True))


def test_answers_are_true_of_the_scene(scripts) -> None:
    tasks = set()
    for index in range(60):
        rng = np.random.default_rng([0, index])
        layout = scenes.sample_layout(rng, 2 + index % 5)
        about = scripts.questions.SceneQuestions(layout, scenes.SIDE, scenes.KINDS, rng)
        for question in filter(None, (about.draw() for _ in range(20))):
            tasks.add(question.task.split(":")[0])
            description = set(question.text.rstrip(".?").split())
            description -= {"the", "object", "where", "is", "there", "a"}
            fitting = [o for o in layout if description <= {o.colour, o.shape, o.size}]
            if question.task.startswith(("bare", "where")):
                (one,) = fitting
                place = scripts.questions.position_words(one, scenes.SIDE)
                assert question.answer.startswith(place)
            if question.task == "is there":
                assert question.answer == ("yes" if fitting else "no")
    assert {"bare", "where", "what colour", "what at", "is there", "how many"} <= tasks


def test_every_word_is_known_and_split_as_the_tokenizer_does(scripts) -> None:
    tokenizer = scripts.vocabulary.build_tokenizer()
    known = scripts.vocabulary.build_vocabulary()
    rng = np.random.default_rng(0)
    for _ in range(100):
        question = scripts.questions.text_question(rng)
        text = f"{question.text} {question.answer}"
        ids = [known[word] for word in scripts.vocabulary.split_words(text)]
        assert tokenizer(text)["input_ids"] == [scripts.vocabulary.BOS, *ids]


def test_the_exported_folder_loads_as_llava(scripts, train, settings, tmp_path) -> None:
    chosen = settings()
    trainer = train.Trainer(chosen)
    scripts.model.export(trainer.model, tmp_path)
    model = LlavaForConditionalGeneration.from_pretrained(tmp_path, dtype=torch.float32).eval()
    processor = AutoProcessor.from_pretrained(tmp_path)
    packer = train.make_packer(chosen)
    image = scenes.make_scene(0, 0).image
    talk = [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "the x."}]}]
    prompt = processor.apply_chat_template(talk, add_generation_prompt=True)
    assert prompt == f"{scripts.vocabulary.SYSTEM} USER: <image>\nthe x. ASSISTANT:"
    inputs = processor(images=Image.fromarray(image), text=prompt, return_tensors="pt")
    start = packer.prefixes[True]
    assert inputs["input_ids"][0, : len(start)].tolist() == start
    assert np.allclose(inputs["pixel_values"][0], packer.pixels(image), atol=1e-5)
    assert model(**inputs).logits.shape[-1] == len(packer.vocabulary)
    weights, loaded = trainer.model.state_dict(), model.state_dict()
    assert weights.keys() == loaded.keys()
    assert all(torch.allclose(weights[k], loaded[k], atol=2e-3) for k in weights)


def test_rate_and_curriculum(scripts, train) -> None:
    chosen = train.Settings(tower_steps=200, steps=1000, warmup=100)
    rates = [train.learning_rate(step, chosen) for step in (0, 120, 199, 200, 299, 1199)]
    assert rates == pytest.approx([0.02, 2.0, 2 / 60, 0.01, 1.0, 0.0025])
    stages = [train.stage_at(step, chosen) for step in (0, 199, 200, 270, 340, 440, 1199)]
    assert stages == [None, None, *scripts.packing.CURRICULUM, scripts.packing.CURRICULUM[-1]]
