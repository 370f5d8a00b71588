"""Hard case 5: a picture's prefix kept between expressions, through the engine.

The adapter is the shipped one, declaring what `PrefixAdapter` does. Its twin in every test is the
plain one, which encodes the picture with each expression.
"""

import gc
import weakref
from concurrent.futures import ThreadPoolExecutor
from threading import Event
from typing import ClassVar

import numpy as np
import pytest
import torch

from vg_engine.core.contract.prompt import Prompt
from vg_engine.core.errors import ExpressionError, InputError, VGError
from vg_engine.core.heads import Head
from vg_engine.model_adapters.families.llava import LlavaAdapter
from vg_engine.model_adapters.shared.prefix import PrefixAdapter
from vg_engine.testing import noise
from vg_engine.testing.tiny import tiny_llava

TOLERANCE = 1e-5
LAYERS, TOKENS = 4, 16  # of the model; of a picture
EXPRESSIONS = ("the red cup", "the dog on the far left", "it", "a cup that is red?")
SIZES = ((80, 56), (56, 56), (41, 97))
PICTURES = [noise(size, seed) for seed, size in enumerate(SIZES)]
PROMPTS = (
    Prompt(),
    Prompt(query_row="expression_all"),
    Prompt(template="Find {expression} now", query_row="prompt_last"),
    Prompt("chat"),
    Prompt("chat", system="Look.", query_row="prompt_last"),
    Prompt("chat", query_row="answer_first", answer="The location is"),
    Prompt("chat", template="Where is {expression}?", query_row="span:Where is"),
)


class KeepingAdapter(PrefixAdapter, LlavaAdapter):
    """The shipped adapter, with kept prefixes."""

    name: ClassVar[str] = "llava-keeping"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    # A full stop melts with a newline behind it, and a newline with a letter: as with real ones.
    merges = [(".", "Ċ"), ("Ċ", "t")]
    made = tmp_path_factory.mktemp("llava") / "tiny"
    return tiny_llava(made, image_size=56, layers=LAYERS, merges=merges)


@pytest.fixture(scope="module")
def keeping(folder, case_of):
    return case_of(KeepingAdapter, folder).engine


@pytest.fixture(scope="module")
def plain(folder, case_of):
    return case_of(LlavaAdapter, folder).engine


@pytest.fixture
def passes(keeping):
    """Tokens of each pass of the keeping engine, its tower's pictures, its layers as they run."""
    counts = {"tokens": [], "pictures": [], "layers": []}
    layers = keeping.model.module.get_decoder().layers

    def tower(_, given, named):
        counts["pictures"].append(len(named.get("pixel_values", given[0] if given else ())))

    handles = [
        layers[0].register_forward_pre_hook(
            lambda _, given: counts["tokens"].append(given[0].shape[1])
        ),
        keeping.model.module.base_model.vision_tower.register_forward_pre_hook(
            tower, with_kwargs=True
        ),
    ]
    for index, layer in enumerate(layers):
        ran = layer.register_forward_hook(lambda *_, at=index: counts["layers"].append(at))
        handles.append(ran)
    yield counts
    for handle in handles:
        handle.remove()


def off(found, expected):
    """The largest difference between maps or groundings, which are otherwise alike."""
    worst = 0.0
    for one, other in zip(found, expected, strict=True):
        for name in ("expression", "heads", "notes"):
            assert getattr(one, name) == getattr(other, name)
        maps = [each.maps if hasattr(each, "maps") else each.soft_map for each in (one, other)]
        assert maps[0].to_original == maps[1].to_original
        worst = max(worst, float(np.abs(maps[0].values - maps[1].values).max()))
    return worst


@pytest.mark.parametrize("prompt", PROMPTS, ids=lambda prompt: f"{prompt.form}-{prompt.query_row}")
def test_maps_equal_those_of_the_plain_adapter(keeping, plain, prompt):
    """In any order, after other pictures, of few and of all layers."""
    scenes = [keeping.open(picture) for picture in PICTURES]
    shallow = [Head(1, 3), Head(0, 2)]
    worst = sharpest = 0.0
    for index, heads in ((0, shallow), (2, None), (1, shallow), (0, None), (2, shallow), (0, None)):
        texts = EXPRESSIONS[index:] + EXPRESSIONS[:index]
        found = scenes[index].maps(texts, heads, prompt=prompt)
        expected = plain.maps(PICTURES[index], texts, heads, prompt=prompt)
        worst = max(worst, off(found, expected))
        sharpest = max(sharpest, *(float(one.maps.values.max()) for one in found))
    for scene in scenes:
        scene.close()
    print(f"kept prefix, {prompt}: largest error {worst:.1e}, sharpest {sharpest:.2f}")
    assert worst < TOLERANCE
    assert sharpest > 0.2


@pytest.mark.parametrize("prompt", [Prompt(), Prompt("chat", query_row="expression_all")])
def test_answers_equal_those_of_the_plain_adapter(keeping, plain, prompt):
    one, other = keeping.variant(prompt=prompt), plain.variant(prompt=prompt)
    for picture in PICTURES:
        expected = other.ground_all(picture, EXPRESSIONS)
        with one.open(picture) as scene:
            answers = (scene.ground(EXPRESSIONS[0]), *scene.ground_all(EXPRESSIONS[1:]))
            again = one.ground_all(scene, EXPRESSIONS)
        stream = tuple(one.ground_many((picture, text) for text in EXPRESSIONS))
        for found in (answers, again, stream):
            assert off(found, expected) < TOLERANCE
            boxes = [np.array([each.box for each in answers]) for answers in (found, expected)]
            assert np.abs(boxes[0] - boxes[1]).max() < TOLERANCE
            assert all(each.provenance["adapter"] == "llava-keeping" for each in found)


def test_a_picture_is_encoded_once(keeping, passes):
    with keeping.open(PICTURES[0]) as scene:
        assert (scene.nbytes, passes["tokens"]) == (0, []), "nothing before the first question"
        scene.ground_all(EXPRESSIONS)
        scene.ground(EXPRESSIONS[0])
        scene.maps(EXPRESSIONS, [Head(0, 0)], prompt=Prompt(query_row="expression_all"))
    assert passes["pictures"] == [1]
    prefix, *others = passes["tokens"]
    assert prefix > TOKENS
    # The longest expression with its stop; the newline before it, where it melts with a letter.
    longest = max(map(len, EXPRESSIONS)) + 2
    assert len(others) == 3
    assert max(others) <= longest
    # What is not open is kept as long as its requests go on, however many batches they take.
    passes["tokens"].clear()
    list(keeping.variant(batch_size=2).ground_many((noise(SIZES[0]), t) for t in EXPRESSIONS[:3]))
    assert passes["pictures"] == [1, 1]
    assert [count == prefix for count in passes["tokens"]] == [True, False, False]
    # A single question about a picture that nobody opened is not worth it.
    keeping.ground(PICTURES[0], EXPRESSIONS[0])
    assert len(passes["tokens"]) == 4


def test_no_more_layers_are_kept_than_are_read(keeping, plain, passes):
    picture, ran = PICTURES[1], passes["layers"]
    with keeping.open(picture) as scene:
        scene.maps("it", [Head(1, 0)])
        assert ran == [0, 1] * 2
        shallow = scene.nbytes
        # Two key heads of 16 numbers of 4 bytes, keys and values: per layer and token.
        assert shallow == 2 * (2 * 16 * 4 * 2) * passes["tokens"][0]
        ran.clear()
        deep = scene.maps("it", [Head(3, 0)])
        assert ran == [0, 1, 2, 3] * 2, "deeper heads need the picture anew"
        assert scene.nbytes == 2 * shallow, "the shallow one is gone"
        assert passes["pictures"] == [1, 1]
        scene.maps("it", [Head(1, 0)])
        assert passes["pictures"] == [1, 1]
    assert off(deep, plain.maps(picture, "it", [Head(3, 0)])) < TOLERANCE


def test_bytes_are_those_of_the_tensors_and_closing_releases_them(keeping):
    scene = keeping.open(PICTURES[0])
    scene.ground("it")
    kept = scene.kept_by(None)
    scene.maps("it", prompt=Prompt("chat"))
    layers = [layer for e in kept._encodings.values() for layer in e.encoding.data.layers]
    tensors = [tensor for pair in layers for tensor in pair]
    assert len(tensors) == 2 * 2 * LAYERS
    assert scene.nbytes == sum(tensor.untyped_storage().nbytes() for tensor in tensors)
    before = [tensor.clone() for tensor in tensors]
    scene.ground_all(EXPRESSIONS)
    assert all(torch.equal(a, b) for a, b in zip(tensors, before, strict=True)), "used, not changed"
    watched = [weakref.ref(tensor) for tensor in tensors]
    del tensors, layers
    scene.close()
    scene.close()
    gc.collect()
    assert all(reference() is None for reference in watched)
    assert kept.nbytes == 0
    uses = (lambda: scene.ground("it"), lambda: scene.nbytes, lambda: keeping.maps(scene, "it"))
    for use in uses:
        with pytest.raises(InputError, match="this scene was closed"):
            use()


@pytest.mark.parametrize("abandon", [False, True])
def test_what_a_stream_keeps_is_given_back_behind_it(folder, case_of, abandon):
    closed = []

    class Counting(KeepingAdapter):
        def vg_open_scene(self, model, picture, prompt, depth):
            encoding = super().vg_open_scene(model, picture, prompt, depth)
            object.__setattr__(encoding, "close", lambda: closed.append(picture.size[0]))
            return encoding

    engine = case_of(Counting, folder, heads=[Head(1, 0)]).engine
    pairs = [(noise(size), text) for size in SIZES[:2] for text in EXPRESSIONS[:2]]
    stream = engine.ground_many(pairs)
    for _ in range(3):
        next(stream)
    assert closed == [80], "the first picture's, once its answers are out"
    if abandon:
        stream.close()
    else:
        assert len(list(stream)) == 1
    assert closed == [80, 56]
    engine.maps_many(pairs)
    assert closed == [80, 56, 80, 56]
    with pytest.raises(ExpressionError):
        engine.ground_all(PICTURES[2], ["it", "<image>", "this"])
    assert closed[4:] == [41]


def test_threads_share_a_scene(keeping, plain):
    """Each asks deeper or shallower than the other, and one of another picture."""
    wanted = [(i % 3, [Head(1 + i % 3, i % 4)], EXPRESSIONS[i % 4]) for i in range(12)]
    expected = [plain.maps(PICTURES[p], text, heads) for p, heads, text in wanted]
    scenes = [keeping.open(picture) for picture in PICTURES]

    def work(order):
        for index in range(len(wanted))[::order]:
            picture, heads, text = wanted[index]
            assert off(scenes[picture].maps(text, heads), expected[index]) < TOLERANCE

    with ThreadPoolExecutor(2) as pool:
        assert list(pool.map(work, (1, -1))) == [None, None]
    for scene in scenes:
        scene.close()


def test_what_a_pass_uses_is_closed_behind_it(folder, case_of, plain):
    """A scene that is closed, or asked more deeply, while another thread reads."""
    inside, go_on = Event(), Event()

    class Slow(KeepingAdapter):
        def vg_prepare_inputs(self, model, scenes, expressions, prompt):
            if expressions[0].text == "slow":
                inside.set()
                assert go_on.wait(30)
            return super().vg_prepare_inputs(model, scenes, expressions, prompt)

    engine, picture, heads = case_of(Slow, folder).engine, PICTURES[0], [Head(1, 0)]
    expected = plain.maps(picture, "slow", heads)
    for deeper in (True, False):
        inside.clear()
        go_on.clear()
        scene = engine.open(picture)
        with ThreadPoolExecutor(1) as pool:
            answer = pool.submit(scene.maps, "slow", heads)
            assert inside.wait(30)
            (used,) = (each.encoding for each in scene.kept_by(None)._encodings.values())
            if deeper:
                scene.maps("it", [Head(3, 0)])
            else:
                scene.close()
            assert used.data.layers, "still in use"
            go_on.set()
        assert not used.data.layers
        scene.close()
        assert off(answer.result(), expected) < TOLERANCE


def test_a_text_longer_than_anything_and_bad_ones_among_good(keeping, plain, passes):
    picture = PICTURES[0]
    long = " ".join(["a red cup on a blue table"] * 60)
    texts = ["it", long, "the <image> here", " ", "far " * 2000, "the dog"]
    with keeping.open(picture) as scene:
        found = list(keeping.ground_many(((scene, text) for text in texts), errors="yield"))
    expected = list(plain.ground_many(((picture, text) for text in texts), errors="yield"))
    assert [type(one) for one in found] == [type(one) for one in expected]
    errors = [[str(one) for one in ones if isinstance(one, VGError)] for ones in (found, expected)]
    assert errors[0] == errors[1]
    assert len(errors[0]) == 3
    good = [[one for one in ones if not isinstance(one, VGError)] for ones in (found, expected)]
    assert off(*good) < TOLERANCE
    assert passes["pictures"] == [1], "a failed pass keeps what was encoded"


def test_rows_before_the_picture_are_refused_behind_a_prefix_too(keeping):
    with keeping.open(PICTURES[0]) as scene:
        scene.ground("it")
        with pytest.raises(ExpressionError, match="stands before the picture"):
            scene.maps("it", prompt=Prompt(query_row="span:artificial intelligence"))


def test_an_adapter_that_declines_answers_without_a_prefix(folder, case_of, plain):
    class Declining(KeepingAdapter):
        def vg_open_scene(self, model, picture, prompt, depth):
            return None

    engine, picture, prompt = case_of(Declining, folder).engine, PICTURES[0], Prompt("chat")
    with engine.open(picture) as scene:
        found = scene.maps("it", prompt=prompt)
        assert scene.nbytes == 0
    assert off(found, plain.maps(picture, "it", prompt=prompt)) < TOLERANCE
