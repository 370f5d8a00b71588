"""Checkpoints and models that others save, train, move or leave half done."""

import json
import shutil

import pytest
import torch
import transformers as hf
from building import edited, siglip
from families import ask, checkpoint, opens
from tokenizers import Tokenizer, models, pre_tokenizers

from vg_engine.core.contract.inputs import AttentionRequest, Expression
from vg_engine.core.contract.model import ModelSpec
from vg_engine.core.contract.prompt import Prompt
from vg_engine.core.errors import (
    CaptureError,
    ExpressionError,
    InputError,
    ModelError,
    UnsupportedModelError,
    WeightsError,
)
from vg_engine.core.heads import Head
from vg_engine.model_adapters.families.internvl import InternVLAdapter
from vg_engine.model_adapters.families.llava import LlavaAdapter
from vg_engine.model_adapters.shared import capture, loading
from vg_engine.testing import noise, open_adapter
from vg_engine.testing.tiny import BOS, EOS, PAD, tiny_llava

good = checkpoint(tiny_llava)


@pytest.fixture
def copy(good, tmp_path):
    return shutil.copytree(good, tmp_path / "copy")


@pytest.fixture
def memory(good):
    """A model and its processor as their owner has them."""
    return hf.LlavaForConditionalGeneration.from_pretrained(
        good
    ), hf.LlavaProcessor.from_pretrained(good)


def rows(opened, text="the red circle"):
    return opened.rows(ask(opened, (64, 64), text))[0]


def held(module, processor):
    return open_adapter(LlavaAdapter(), "", module=module, processor=processor)


@pytest.mark.parametrize("most", [100, 222])
def test_a_truncation_that_was_saved_cuts_no_prompt(good, copy, most):
    settings = {"direction": "Right", "max_length": most, "strategy": "LongestFirst", "stride": 0}
    with edited(copy / "tokenizer.json") as stated:
        stated["truncation"] = settings
    with edited(copy / "tokenizer_config.json") as stated:
        stated.update(model_max_length=most, max_length=most, truncation=True)
    whole, cut = opens(LlavaAdapter, good), opens(LlavaAdapter, copy)
    assert torch.equal(rows(cut), rows(whole))
    asked = [Expression(0, "the red circle"), Expression(0, "it")]
    pictures = [noise((64, 64))]
    for one, other in zip(
        cut.rows(cut.prepare(pictures, asked)),
        whole.rows(whole.prepare(pictures, asked)),
        strict=True,
    ):
        assert torch.equal(one, other)


def test_added_words_are_words_and_control_tokens_are_not(copy):
    tokenizer = hf.AutoTokenizer.from_pretrained(copy)
    model = hf.LlavaForConditionalGeneration.from_pretrained(copy)
    tokenizer.add_tokens(["forklift", "art", "<point>"])
    model.resize_token_embeddings(len(tokenizer), mean_resizing=False)
    tokenizer.save_pretrained(copy)
    model.save_pretrained(copy)
    opened = opens(LlavaAdapter, copy)
    for text in ("the forklift", "the cart on the left"):
        assert ask(opened, text=text).queries[0].rows
    for token in ("<image>", "<point>", "</s>"):
        with pytest.raises(ExpressionError, match="holds the model's token"):
            ask(opened, text=f"the {token} cup")


@pytest.mark.parametrize(
    ("template", "text"), [("</s> {expression}", "it"), ("<{expression}>", "/s")]
)
def test_a_token_that_the_template_holds_or_makes_is_named(good, template, text):
    with pytest.raises(ExpressionError, match=r"^'</s>.*' holds the model's token '</s>'"):
        ask(opens(LlavaAdapter, good), text=text, prompt=Prompt(template=template, ending=""))


@pytest.fixture
def words(copy):
    """The checkpoint with a tokenizer that splits at blanks: `circle.` is no word that it knows."""

    def made(*known):
        special = ["<unk>", PAD, BOS, EOS, "<image>"]
        vocabulary = {word: number for number, word in enumerate([*special, *known])}
        tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
        tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
        tokenizer.add_special_tokens(special)
        hf.PreTrainedTokenizerFast(
            tokenizer_object=tokenizer,
            unk_token="<unk>",
            pad_token=PAD,
            bos_token=BOS,
            eos_token=EOS,
            extra_special_tokens=["<image>"],
        ).save_pretrained(copy)
        with edited(copy / "config.json") as stated:
            stated["image_token_index"] = vocabulary["<image>"]
        return opens(LlavaAdapter, copy)

    return made


@pytest.mark.parametrize(
    ("known", "ending", "row", "unknown"),
    [
        (("the", "red", "circle", "."), None, ".", ()),  # the stop stands apart
        (("the", "red", "circle"), None, "circle", ()),  # there is no stop to read
        (("the", "red", "circle", "circle."), None, "circle.", ()),
        (("the", "red", "."), None, "circle.", ("circle.",)),  # unknown with and without it
        (("the", "red", "circle", "."), ".", "circle.", ("circle.",)),
        (("the", "red", "circle", "."), "", "circle", ()),
        (("the", "red", "circle", "circle."), " .", ".", (".",)),
    ],
)
def test_a_full_stop_costs_no_word(words, known, ending, row, unknown):
    opened = words(*known)
    inputs = ask(opened, text="the red circle", prompt=Prompt(ending=ending))
    (query,) = inputs.queries
    assert query.tokens == (row,)
    assert inputs.unknown[0] == (() if unknown == (".",) else unknown)
    assert opened.rows(inputs)[0].shape[1] == 1


def test_an_ending_is_a_mark_or_nothing():
    for wrong in ("!!", "and", ". ."):
        with pytest.raises(InputError, match=r"choose '\.', ' \.' or ''"):
            Prompt(ending=wrong)


def test_a_model_in_training_answers_as_in_evaluation_and_goes_on_training(memory):
    module, processor = memory
    for layer in module.model.language_model.layers:
        layer.self_attn.attention_dropout = 0.5
    opened = held(module, processor)
    expected = rows(opened)
    assert not module.training
    module.train()
    module.model.vision_tower.eval()
    before = {name: part.training for name, part in module.named_modules()}
    assert torch.equal(rows(opened), expected)
    with capture.evaluation(module), capture.evaluation(module):
        assert not any(part.training for part in module.modules())
        assert torch.equal(rows(opened), expected)
        assert not module.training
    assert {name: part.training for name, part in module.named_modules()} == before
    assert not any("vg_engine" in name for name in vars(module) if "evaluation" in name)
    opened.model.close()
    assert {name: part.training for name, part in module.named_modules()} == before


@pytest.mark.parametrize("part", ["", "model.language_model", "model.vision_tower"])
def test_a_model_that_was_converted_since_is_refused(memory, part):
    module, processor = memory
    opened = held(module, processor)
    module.get_submodule(part).to(torch.float64)
    with pytest.raises(ModelError, match=r"dtype of .* was torch\.float32 .* is torch\.float64"):
        rows(opened)


def test_parts_that_do_not_go_together_are_stated_and_refused_in_one_line(memory):
    module, processor = memory
    module.model.language_model.to(torch.bfloat16)
    assert "Its language model is in torch.bfloat16" in held(module, processor).model.statements[-1]
    module.model.vision_tower.to(torch.float64)
    with pytest.raises(ModelError, match=r"refuses its inputs \(.*same dtype"):
        rows(held(module, processor))


def test_what_an_owner_changes_later_is_seen_in_the_model_and_not_in_the_processor(memory):
    module, processor = memory
    opened, request = held(module, processor), AttentionRequest((Head(1, 1),))
    inputs = ask(opened)
    before = opened.rows(inputs, request)[0]
    processor.image_processor.crop_size = {"height": 56, "width": 56}
    assert torch.equal(opened.rows(ask(opened), request)[0], before)
    module.resize_token_embeddings(300, mean_resizing=False)
    module.get_input_embeddings().weight.data.mul_(2)
    now = opened.rows(inputs, request)[0]
    assert not torch.equal(now, before)
    assert torch.equal(now, held(module, processor).rows(inputs, request)[0])
    module.set_attn_implementation("eager")
    with pytest.raises(CaptureError, match="were changed since it was loaded"):
        opened.rows(inputs, request)


def test_a_processor_of_another_family_is_named(memory):
    with pytest.raises(InputError, match=r"'internvl' cannot use a LlavaProcessor \(.*AutoProc"):
        open_adapter(InternVLAdapter(), "", module=memory[0], processor=memory[1])


def test_a_model_inside_a_wrapper_is_asked_for(memory):
    with pytest.raises(UnsupportedModelError, match=r"got DataParallel; .*\(model\.module, "):
        held(torch.nn.DataParallel(memory[0]), memory[1])


@pytest.mark.parametrize(
    ("settings", "match"),
    [({"dtype": "bfloat16"}, r"in torch\.float32; convert it"), ({"dtype": "float32"}, None)],
)
def test_a_dtype_beside_a_model_in_memory_is_not_ignored(memory, settings, match):
    spec = ModelSpec("", module=memory[0], processor=memory[1], **settings)
    if match is None:
        LlavaAdapter().vg_load_model(spec).close()
        return
    with pytest.raises(InputError, match=match):
        LlavaAdapter().vg_load_model(spec)


def test_what_is_no_processor_is_named(memory):
    for wrong in (memory[1].tokenizer, memory[1].image_processor, "folder"):
        with pytest.raises(InputError, match=f"got {type(wrong).__name__}; load it with"):
            held(memory[0], wrong)


def test_weights_without_a_device_are_refused_and_hooks_say_where_they_run(memory):
    module = memory[0].to("meta")
    with pytest.raises(ModelError, match="holds no weights"):
        loading.execution_device(module)
    module.model.language_model._hf_hook = type("Hook", (), {"execution_device": "cpu"})()
    assert loading.execution_device(module) == torch.device("cpu")


def test_an_index_that_was_left_beside_the_whole_file_is_not_read(copy):
    index = {"weight_map": {"a": "model-00001-of-00002.safetensors"}}
    (copy / "model.safetensors.index.json").write_text(json.dumps(index))
    assert opens(LlavaAdapter, copy).model.layers == 4


@pytest.mark.parametrize("place", [(), ("text_config",), ("vision_config",)])
def test_a_config_that_asks_for_flash_attention_loads_without_it(copy, place):
    with edited(copy / "config.json") as part:
        for key in place:
            part = part[key]  # noqa: PLW2901 - one step down
        part["_attn_implementation"] = "flash_attention_2"
    assert opens(LlavaAdapter, copy).model.layers == 4


def test_sizes_that_do_not_match_are_listed(copy):
    with edited(copy / "config.json") as stated:
        stated["text_config"]["vocab_size"] += 64
    with pytest.raises(WeightsError, match=r"2 of other sizes \(lm_head\.weight: \[260, 64\] in"):
        opens(LlavaAdapter, copy)


def test_a_peft_adapter_is_mentioned_and_alone_it_is_refused(copy, monkeypatch):
    (copy / "adapter_config.json").write_text("{}")
    for installed, words in ((None, "is left out, since peft"), (object(), "was applied")):
        monkeypatch.setattr(loading.importlib.util, "find_spec", lambda _, spec=installed: spec)
        assert words in loading.peft_statements(ModelSpec(str(copy)))[0]
    (copy / "model.safetensors").unlink()
    with pytest.raises(WeightsError, match="peft adapter alone"):
        loading.check_source(str(copy))


def test_a_tower_without_class_token_whose_first_cell_is_dropped_is_refused(copy):
    config = hf.LlavaConfig.from_pretrained(copy)
    config.vision_config = siglip(112)
    hf.LlavaForConditionalGeneration(config).save_pretrained(copy)
    with edited(copy / "processor_config.json") as stated:
        stated["num_additional_image_tokens"] = 0
    opened = opens(LlavaAdapter, copy)
    with pytest.raises(UnsupportedModelError, match="drops the first cell of its picture"):
        opened.views(ask(opened))
