"""Everything that a user can get wrong when loading ends in one line that says what to do."""

import json
import os
import shutil
from contextlib import contextmanager

import pytest
import torch
from families import ask
from transformers import (
    AutoTokenizer,
    LlavaForConditionalGeneration,
    LlavaProcessor,
    ProcessorMixin,
)

from vg_engine.core.contract.inputs import Expression
from vg_engine.core.contract.model import ModelSpec
from vg_engine.core.contract.prompt import Prompt
from vg_engine.core.errors import (
    InputError,
    ModelError,
    ModelNotFoundError,
    UnsupportedModelError,
    WeightsError,
)
from vg_engine.model_adapters.families.internvl import InternVLAdapter
from vg_engine.model_adapters.families.llava import LlavaAdapter
from vg_engine.model_adapters.shared import loading
from vg_engine.testing import noise, open_adapter
from vg_engine.testing.tiny import tiny_internvl, tiny_llava


@pytest.fixture(scope="module")
def good(tmp_path_factory):
    return tiny_llava(tmp_path_factory.mktemp("loading") / "good", layers=1, hidden=32)


@pytest.fixture
def copy(good, tmp_path):
    return shutil.copytree(good, tmp_path / "copy")


def load(source, **options):
    return LlavaAdapter().vg_load_model(ModelSpec(str(source), device="cpu", **options))


def one_line(raised):
    assert len(str(raised.value).splitlines()) == 1
    return str(raised.value)


def refused(error, match, source, **options):
    with pytest.raises(error, match=match) as raised:
        load(source, **options)
    one_line(raised)


@contextmanager
def edited(path):
    stated = json.loads(path.read_text())
    yield stated
    path.write_text(json.dumps(stated))


@pytest.mark.parametrize("source", ["/no/such/folder", "./none", "a/b/c", "nothing"])
def test_no_such_folder(source):
    refused(ModelNotFoundError, "no model folder", source)


def test_hub_id_that_cannot_be_had():
    refused(ModelNotFoundError, "nobody/nothing", "nobody/nothing")


def test_folder_without_config(tmp_path):
    refused(ModelNotFoundError, r"no config\.json", tmp_path)


def test_pickled_weights_are_refused_and_convert_is_named(tmp_path):
    folder = tiny_llava(tmp_path / "old", layers=1, hidden=32, safe=False)
    refused(WeightsError, "vg-engine convert", folder)


def test_no_weights_at_all(copy):
    (copy / "model.safetensors").unlink()
    with pytest.raises(WeightsError, match="holds no weights"):
        load(copy)


def test_missing_shard_and_broken_index(copy):
    index = copy / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": {"a": "model-00002-of-00002.safetensors"}}))
    with pytest.raises(WeightsError, match="lacks model-00002-of-00002"):
        load(copy)
    index.write_text("{")
    with pytest.raises(WeightsError, match="is broken"):
        load(copy)


def test_truncated_weights(copy):
    weights = copy / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    refused(WeightsError, "broken safetensors", copy)


def test_missing_and_unexpected_keys_are_listed(copy):
    from safetensors.torch import load_file, save_file

    weights = copy / "model.safetensors"
    tensors = load_file(weights)
    name = next(key for key in tensors if "q_proj" in key and "language" in key)
    tensors["something.else"] = tensors.pop(name)
    save_file(tensors, weights, metadata={"format": "pt"})
    with pytest.raises(WeightsError) as raised:
        load(copy)
    text = one_line(raised)
    assert "1 missing (" in text
    assert "q_proj" in text
    assert "1 unexpected (something.else)" in text


def test_weights_of_another_size(copy):
    with edited(copy / "config.json") as config:
        config["text_config"]["intermediate_size"] *= 2
    refused(ModelError, r"do not fit|cannot be loaded", copy)


def test_code_of_its_own_is_not_run(copy):
    (copy / "evil.py").write_text("raise SystemExit('ran')")
    with edited(copy / "config.json") as config:
        config["model_type"] = "evil"
        config["auto_map"] = {
            "AutoConfig": "evil.Config",
            "AutoModelForImageTextToText": "evil.Model",
        }
    refused(ModelError, "--trust-remote-code", copy)


def test_folder_without_a_tokenizer(copy):
    for path in copy.glob("tokenizer*"):
        path.unlink()
    refused(ModelError, r"processor of .* cannot be loaded", copy)


def test_devices_and_types(good):
    assert load(good).dtype == torch.float32
    assert load(good, dtype="bfloat16").dtype == torch.bfloat16
    with pytest.raises(InputError, match="choose auto or cpu"):
        loading.choose_device("abacus")
    with pytest.raises(InputError, match="choose auto, float32"):
        load(good, dtype="int8")
    assert loading.choose_dtype("auto", torch.device("cuda")) == "auto"
    assert loading.choose_dtype("auto", torch.device("cpu")) == torch.float32


def test_a_model_in_memory_needs_its_processor(good):
    module = LlavaForConditionalGeneration.from_pretrained(good)
    with pytest.raises(InputError, match="needs its processor"):
        LlavaAdapter().vg_load_model(ModelSpec("", module=module))
    model = LlavaAdapter().vg_load_model(ModelSpec(str(good), module=module))
    assert model.module is module
    with pytest.raises(UnsupportedModelError, match="got Linear"):
        LlavaAdapter().vg_load_model(
            ModelSpec("", module=torch.nn.Linear(1, 1), processor=model.processor)
        )


def test_the_users_processor_is_not_changed(good):
    module = LlavaForConditionalGeneration.from_pretrained(good)
    processor = LlavaProcessor.from_pretrained(good)
    before = processor.to_json_string(), processor.tokenizer.backend_tokenizer.to_str()
    opened = open_adapter(
        LlavaAdapter(), "", module=module, processor=processor, options={"geometry": "pad"}
    )
    opened.prepare([noise((64, 64))], [Expression(0, "it"), Expression(0, "it all")])
    assert opened.model.processor is not processor
    after = processor.to_json_string(), processor.tokenizer.backend_tokenizer.to_str()
    assert after == before


def test_old_files_that_leave_the_patch_size_out(copy):
    path = copy / "processor_config.json"
    settings = json.loads(path.read_text())
    for name in ("patch_size", "num_additional_image_tokens", "vision_feature_select_strategy"):
        del settings[name]
    path.write_text(json.dumps(settings))
    opened = open_adapter(LlavaAdapter(), str(copy))
    inputs = ask(opened)
    assert opened.views(inputs)[0][0].shape == (8, 8)
    opened.rows(inputs)


def test_old_layout_of_the_processors_files(good, copy):
    """Image processor and chat template in files of their own, as they once were."""
    settings = json.loads((copy / "processor_config.json").read_text())
    images = settings.pop("image_processor")
    (copy / "preprocessor_config.json").write_text(json.dumps(images))
    (copy / "processor_config.json").write_text(json.dumps(settings))
    template = (copy / "chat_template.jinja").read_text()
    (copy / "chat_template.jinja").unlink()
    (copy / "chat_template.json").write_text(json.dumps({"chat_template": template}))
    old, new = open_adapter(LlavaAdapter(), str(copy)), open_adapter(LlavaAdapter(), str(good))
    assert old.model.processor.chat_template == new.model.processor.chat_template
    assert old.model.processor.image_processor.to_dict() == (
        new.model.processor.image_processor.to_dict()
    )


# transformers leaves those files open (5.23).
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("where", ["tokenizer_config.json", "additional_chat_templates"])
def test_of_several_chat_templates_the_default_is_taken(good, copy, where):
    """Cohere's repositories list theirs by name; transformers 5 gives each a file of its own."""
    template = (copy / "chat_template.jinja").read_text()
    if where == "tokenizer_config.json":
        (copy / "chat_template.jinja").unlink()
        stated = json.loads((copy / where).read_text())
        named = {"tool_use": "{{ 1 }}", "default": template}
        stated["chat_template"] = [{"name": n, "template": t} for n, t in named.items()]
        (copy / where).write_text(json.dumps(stated))
    else:
        (copy / where).mkdir()
        (copy / where / "tool_use.jinja").write_text("{{ 1 }}")
    rendered = []
    module = LlavaForConditionalGeneration.from_pretrained(copy)
    whole = LlavaProcessor.from_pretrained(copy)
    for source, options in (good, {}), (copy, {}), ("", {"module": module, "processor": whole}):
        opened = open_adapter(LlavaAdapter(), str(source), **options)
        asked = opened.prepare([noise((64, 64))], [Expression(0, "it")], Prompt("chat"))
        rendered.append(asked.rendered)
    assert rendered[0] == rendered[1] == rendered[2]


def test_a_slow_tokenizer_is_refused(good):
    module = LlavaForConditionalGeneration.from_pretrained(good)
    processor = open_adapter(LlavaAdapter(), str(good)).model.processor

    class Slow:
        is_fast = False

    processor.tokenizer = Slow()
    with pytest.raises(UnsupportedModelError, match=r"tokenizer\.json"):
        open_adapter(LlavaAdapter(), "", module=module, processor=processor)


def test_without_padding_token_one_expression_at_a_time(good):
    opened = open_adapter(LlavaAdapter(), str(good))
    opened.model.processor.tokenizer.pad_token = None
    ask(opened)
    with pytest.raises(ModelError, match="no padding token"):
        opened.prepare([noise((64, 64))], [Expression(0, "it"), Expression(0, "all")])


def test_pillows_image_processor_takes_the_place_of_torchvisions(good):
    processor = open_adapter(LlavaAdapter(), str(good)).model.processor
    pillow = processor.image_processor

    class CLIPImageProcessor(type(pillow)):
        backend = "torchvision"

    class OddImageProcessor(type(pillow)):
        backend = "torchvision"

    processor.image_processor = CLIPImageProcessor.from_dict(pillow.to_dict())
    own = loading.own_processor(processor)
    assert type(own.image_processor) is type(pillow)
    assert own.image_processor.crop_size == pillow.crop_size
    processor.image_processor = OddImageProcessor.from_dict(pillow.to_dict())
    with pytest.raises(UnsupportedModelError, match="no Pillow form"):
        loading.own_processor(processor)


def test_an_image_processor_that_transformers_has_in_one_form_alone_stays(good):
    processor = open_adapter(LlavaAdapter(), str(good)).model.processor
    pillow = processor.image_processor

    class OnlyImageProcessor(type(pillow)):
        __module__ = "transformers.models.only.image_processing_only"
        backend = "torchvision"

    only = processor.image_processor = OnlyImageProcessor.from_dict(pillow.to_dict())
    own = loading.own_processor(processor)
    assert own is not processor
    assert own.image_processor is only


def test_parts_that_stand_between_the_others_are_left_out(good):
    processor = open_adapter(LlavaAdapter(), str(good)).model.processor

    class Sounding(ProcessorMixin):
        def __init__(self, image_processor, audio_processor, tokenizer, marks=False, **settings):
            self.marks = marks
            super().__init__(image_processor, audio_processor, tokenizer, **settings)

    whole = loading.without_video(Sounding)
    parts = [processor.image_processor, processor.tokenizer]
    made = whole.from_args_and_dict(parts, {"marks": True, "chat_template": "{{ 1 }}"})
    assert [made.image_processor, made.tokenizer] == parts
    assert (made.marks, made.chat_template) == (True, "{{ 1 }}")
    assert type(made).__name__ == "Sounding"
    by_hand = whole(parts[0], None, parts[1])
    assert [by_hand.image_processor, by_hand.tokenizer] == parts

    class Seeing(ProcessorMixin):
        def __init__(self, feature_extractor, image_processor, tokenizer, video_processor):
            super().__init__(feature_extractor, image_processor, tokenizer, video_processor)

    made = loading.without_video(Seeing).from_args_and_dict(parts, {})
    assert [made.image_processor, made.tokenizer] == parts
    # Where they stand in front, as in most families, nothing is put between them.
    assert loading.without_video(LlavaProcessor)._order == ("image_processor", "tokenizer")


def test_processor_is_built_without_its_video_part(tmp_path):
    folder = tiny_internvl(tmp_path / "m", layers=1, hidden=32)
    model = InternVLAdapter().vg_load_model(ModelSpec(str(folder), device="cpu"))
    assert type(model.processor).get_attributes() == ["image_processor", "tokenizer"]
    assert model.processor.image_processor.backend == "pil"
    assert isinstance(model.processor.tokenizer, type(AutoTokenizer.from_pretrained(folder)))


@pytest.mark.parametrize(
    "index", [[1], {"weight_map": [1]}, {"weight_map": {"a": ["x"]}}, {"weight_map": 3}]
)
def test_an_index_of_another_form_is_broken(copy, index):
    (copy / "model.safetensors.index.json").write_text(json.dumps(index))
    refused(WeightsError, "is broken", copy)


def test_an_index_that_names_pickles_is_refused_before_they_are_read(copy, monkeypatch):
    (copy / "model.safetensors").unlink()
    torch.save({"a": torch.zeros(1)}, copy / "shard.bin")
    index = {"metadata": {}, "weight_map": {"a": "shard.bin"}}
    (copy / "model.safetensors.index.json").write_text(json.dumps(index))
    monkeypatch.setattr(torch, "load", lambda *_, **__: pytest.fail("a pickle was read"))
    refused(WeightsError, "vg-engine convert", copy)


def test_no_service_converts_pickles(copy, monkeypatch):
    """transformers would ask one to, and load what it answers."""
    monkeypatch.delenv("DISABLE_SAFETENSORS_CONVERSION", raising=False)
    asked = []

    class Auto:
        @staticmethod
        def from_pretrained(*_, **options):
            asked.append((os.environ.get("DISABLE_SAFETENSORS_CONVERSION"), options))
            raise OSError(
                "x/y does not appear to have a file named model.safetensors or model.safetensors."
                "index.json and thus cannot be loaded with `safetensors`. Please do not set "
                "`use_safetensors=True`."
            )

    with pytest.raises(WeightsError, match="vg-engine convert"):
        loading.load_model(ModelSpec("x/y", device="cpu"), Auto)
    ((off, options),) = asked
    assert off == "1"
    assert options["use_safetensors"] is True
    assert "DISABLE_SAFETENSORS_CONVERSION" not in os.environ


@pytest.mark.parametrize(
    ("part", "key", "value"),
    [("text_config", "hidden_size", "abc"), ("text_config", "num_attention_heads", 0)],
)
def test_a_wrong_config_is_one_line(copy, part, key, value):
    with edited(copy / "config.json") as config:
        config[part][key] = value
    refused(ModelError, "cannot be loaded", copy)


def test_the_adapter_of_another_family_leaves_the_model_alone(tmp_path):
    folder = tiny_internvl(tmp_path / "other", layers=1, hidden=32)
    module = loading.load_model(ModelSpec(str(folder), device="cpu"), InternVLAdapter.auto_class)
    module.train()
    before = module.config.text_config._attn_implementation
    refused(UnsupportedModelError, "for models of type 'internvl'", folder, module=module)
    assert module.config.text_config._attn_implementation == before
    assert module.training


def test_what_the_model_refuses_is_one_line(copy):
    with edited(copy / "processor_config.json") as settings:
        settings["image_processor"]["crop_size"] = {"height": 98, "width": 98}
    opened = open_adapter(LlavaAdapter(), str(copy))
    inputs = opened.prepare([noise((90, 60))], [Expression(0, "a cup")])
    with pytest.raises(ModelError, match=r"98.*do not belong together") as raised:
        opened.rows(inputs)
    one_line(raised)


def test_out_of_memory_says_what_to_do(good, monkeypatch):
    opened = open_adapter(LlavaAdapter(), str(good))
    inputs = opened.prepare([noise((90, 60))], [Expression(0, "a cup")])

    def full(*_, **__):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 9 GiB")

    monkeypatch.setattr(type(opened.model.module.model), "forward", full)
    with pytest.raises(ModelError, match="smaller --batch-size"):
        opened.rows(inputs)


@pytest.mark.parametrize("name", ["float8_e4m3fn", "int8", "Tensor", "complex64"])
def test_types_that_attention_cannot_run_in(name):
    with pytest.raises(InputError, match="choose auto, float32"):
        loading.choose_dtype(name, torch.device("cpu"))


@pytest.mark.parametrize("name", ["meta", "banana", "cuda:99"])
def test_devices_that_cannot_be_used(name):
    with pytest.raises(InputError, match="choose auto or cpu") as raised:
        loading.choose_device(name)
    one_line(raised)
