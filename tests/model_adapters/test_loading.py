"""Everything that a user can get wrong when loading ends in one line that says what to do."""

import json
import os
import shutil
from types import SimpleNamespace

import pytest
import torch
import transformers as hf
from building import edited
from families import ask, checkpoint, opens
from safetensors.torch import load_file, save_file

from vg_engine.core.contract.inputs import Expression
from vg_engine.core.contract.model import ModelSpec
from vg_engine.core.contract.prompt import Prompt
from vg_engine.core.errors import InputError, ModelError, ModelNotFoundError, WeightsError
from vg_engine.core.errors import UnsupportedModelError as Unsupported
from vg_engine.model_adapters.families.internvl import InternVLAdapter
from vg_engine.model_adapters.families.llava import LlavaAdapter
from vg_engine.model_adapters.shared import loading, processors
from vg_engine.testing import noise, open_adapter
from vg_engine.testing.tiny import tiny_internvl, tiny_llava

good = checkpoint(tiny_llava, layers=1, hidden=32)


@pytest.fixture
def copy(good, tmp_path):
    return shutil.copytree(good, tmp_path / "copy")


def load(source, **options):
    return LlavaAdapter().vg_load_model(ModelSpec(str(source), device="cpu", **options))


def refused(error, match, source, **options):
    with pytest.raises(error, match=match) as raised:
        load(source, **options)
    assert len(str(raised.value).splitlines()) == 1


@pytest.mark.parametrize("source", ["/no/such/folder", "./none", "a/b/c", "nothing"])
def test_no_such_folder(source):
    refused(ModelNotFoundError, "no model folder", source)


def test_hub_id_that_cannot_be_had_and_folder_without_config(tmp_path):
    refused(ModelNotFoundError, "nobody/nothing", "nobody/nothing")
    refused(ModelNotFoundError, r"no config\.json", tmp_path)


INDEX = "model.safetensors.index.json"


@pytest.mark.parametrize(
    ("name", "text", "match"),
    [
        ("model.safetensors", None, "holds no weights"),
        (INDEX, '{"weight_map": {"a": "x-2-of-2.safetensors"}}', r"lacks x-2-of-2\.safetensors"),
        (INDEX, "{", "is broken"),
        (INDEX, "[1]", "is broken"),
        (INDEX, '{"weight_map": [1]}', "is broken"),
        (INDEX, '{"weight_map": {"a": ["x"]}}', "is broken"),
        (INDEX, '{"weight_map": 3}', "is broken"),
    ],
)
def test_missing_weights_and_broken_indexes(copy, name, text, match):
    (copy / "model.safetensors").unlink()
    if text is not None:
        (copy / name).write_text(text)
    refused(WeightsError, match, copy)


def test_truncated_weights_and_missing_and_unexpected_keys(copy):
    weights = copy / "model.safetensors"
    whole = weights.read_bytes()
    weights.write_bytes(whole[:1000])
    refused(WeightsError, "broken safetensors", copy)
    weights.write_bytes(whole)
    tensors = load_file(weights)
    name = next(key for key in tensors if "q_proj" in key and "language" in key)
    tensors["something.else"] = tensors.pop(name)
    save_file(tensors, weights, metadata={"format": "pt"})
    refused(WeightsError, r"1 missing \(.*q_proj.*1 unexpected \(something\.else\)", copy)


@pytest.mark.parametrize(
    ("key", "value", "match"),
    [
        ("intermediate_size", 128, "do not fit|cannot be loaded"),
        ("hidden_size", "abc", "cannot be loaded"),
        ("num_attention_heads", 0, "cannot be loaded"),
    ],
)
def test_a_config_that_does_not_fit_is_one_line(copy, key, value, match):
    with edited(copy / "config.json") as config:
        config["text_config"][key] = value
    refused(ModelError, match, copy)


def test_code_of_its_own_is_not_run(copy):
    (copy / "evil.py").write_text("raise SystemExit('ran')")
    with edited(copy / "config.json") as config:
        config["model_type"] = "evil"
        config["auto_map"] = {"AutoConfig": "evil.Config"}
        config["auto_map"]["AutoModelForImageTextToText"] = "evil.Model"
    refused(ModelError, "--trust-remote-code", copy)


def test_folder_without_a_tokenizer(copy):
    for path in copy.glob("tokenizer*"):
        path.unlink()
    refused(ModelError, r"processor of .* cannot be loaded", copy)


def test_types_and_devices(good):
    assert load(good).dtype == torch.float32
    assert load(good, dtype="bfloat16").dtype == torch.bfloat16
    refused(InputError, "choose auto, float32", good, dtype="int8")
    assert loading.choose_dtype("auto", torch.device("cuda")) == "auto"
    assert loading.choose_dtype("auto", torch.device("cpu")) == torch.float32
    for name in ("float8_e4m3fn", "int8", "Tensor", "complex64"):
        with pytest.raises(InputError, match="choose auto, float32"):
            loading.choose_dtype(name, torch.device("cpu"))
    for name in ("meta", "banana", "abacus", "cuda:99"):
        with pytest.raises(InputError, match=r"^[^\n]*choose auto or cpu[^\n]*$"):
            loading.choose_device(name)


def test_a_model_in_memory_needs_its_processor(good):
    module = hf.LlavaForConditionalGeneration.from_pretrained(good)
    with pytest.raises(InputError, match="needs its processor"):
        LlavaAdapter().vg_load_model(ModelSpec("", module=module))
    model = LlavaAdapter().vg_load_model(ModelSpec(str(good), module=module))
    assert model.module is module
    linear = torch.nn.Linear(1, 1)
    with pytest.raises(Unsupported, match="got Linear"):
        LlavaAdapter().vg_load_model(ModelSpec("", module=linear, processor=model.processor))


def test_the_users_processor_is_not_changed(good):
    module = hf.LlavaForConditionalGeneration.from_pretrained(good)
    processor = hf.LlavaProcessor.from_pretrained(good)
    before = processor.to_json_string(), processor.tokenizer.backend_tokenizer.to_str()
    more = {"processor": processor, "options": {"geometry": "pad"}}
    opened = open_adapter(LlavaAdapter(), "", module=module, **more)
    opened.prepare([noise((64, 64))], [Expression(0, "it"), Expression(0, "it all")])
    assert opened.model.processor is not processor
    after = processor.to_json_string(), processor.tokenizer.backend_tokenizer.to_str()
    assert after == before


def test_old_files_that_leave_the_patch_size_out(copy):
    with edited(copy / "processor_config.json") as settings:
        for name in ("patch_size", "num_additional_image_tokens", "vision_feature_select_strategy"):
            del settings[name]
    opened = opens(LlavaAdapter, copy)
    inputs = ask(opened)
    assert opened.views(inputs)[0][0].shape == (8, 8)
    opened.rows(inputs)


def test_old_layout_of_the_processors_files(good, copy):
    """Image processor and chat template in files of their own, as they once were."""
    with edited(copy / "processor_config.json") as settings:
        (copy / "preprocessor_config.json").write_text(json.dumps(settings.pop("image_processor")))
    template = (copy / "chat_template.jinja").read_text()
    (copy / "chat_template.jinja").unlink()
    (copy / "chat_template.json").write_text(json.dumps({"chat_template": template}))
    old, new = (opens(LlavaAdapter, folder).model.processor for folder in (copy, good))
    assert old.chat_template == new.chat_template
    assert old.image_processor.to_dict() == new.image_processor.to_dict()


# transformers leaves those files open (5.23).
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("where", ["tokenizer_config.json", "additional_chat_templates"])
def test_of_several_chat_templates_the_default_is_taken(good, copy, where):
    """Cohere's repositories list theirs by name; transformers 5 gives each a file of its own."""
    template = (copy / "chat_template.jinja").read_text()
    if where == "tokenizer_config.json":
        (copy / "chat_template.jinja").unlink()
        with edited(copy / where) as stated:
            named = {"tool_use": "{{ 1 }}", "default": template}
            stated["chat_template"] = [{"name": n, "template": t} for n, t in named.items()]
    else:
        (copy / where).mkdir()
        (copy / where / "tool_use.jinja").write_text("{{ 1 }}")
    rendered = []
    parts = {"module": hf.LlavaForConditionalGeneration.from_pretrained(copy)}
    parts["processor"] = hf.LlavaProcessor.from_pretrained(copy)
    for source, options in (good, {}), (copy, {}), ("", parts):
        opened = open_adapter(LlavaAdapter(), str(source), **options)
        rendered.append(ask(opened, prompt=Prompt("chat")).rendered)
    assert rendered[0] == rendered[1] == rendered[2]


def test_tokenizers_without_offsets_or_padding(good):
    """Without a padding token, one expression at a time can be asked about."""
    opened = opens(LlavaAdapter, good)
    processor = opened.model.processor
    processor.tokenizer.pad_token = None
    ask(opened)
    with pytest.raises(ModelError, match="no padding token"):
        opened.prepare([noise((64, 64))], [Expression(0, "it"), Expression(0, "all")])
    processor.tokenizer = SimpleNamespace(is_fast=False)
    with pytest.raises(Unsupported, match=r"tokenizer\.json"):
        open_adapter(LlavaAdapter(), "", module=opened.model.module, processor=processor)


def test_pillows_image_processor_takes_the_place_of_torchvisions(good):
    """But for one that transformers has in one form alone: that one stays."""
    processor = opens(LlavaAdapter, good).model.processor
    pillow = processor.image_processor

    def own(name, module=__name__):
        kind = type(name, (type(pillow),), {"backend": "torchvision", "__module__": module})
        processor.image_processor = kind.from_dict(pillow.to_dict())
        return processors.own_processor(processor)

    clip = own("CLIPImageProcessor").image_processor
    assert type(clip) is type(pillow)
    assert clip.crop_size == pillow.crop_size
    with pytest.raises(Unsupported, match="no Pillow form"):
        own("OddImageProcessor")
    made = own("OnlyImageProcessor", "transformers.models.only.image_processing_only")
    assert made is not processor
    assert isinstance(made.image_processor, type(processor.image_processor))


def test_parts_that_stand_between_the_others_are_left_out(good):
    processor = opens(LlavaAdapter, good).model.processor

    class Sounding(hf.ProcessorMixin):
        def __init__(self, image_processor, audio_processor, tokenizer, marks=False, **settings):
            self.marks = marks
            super().__init__(image_processor, audio_processor, tokenizer, **settings)

    whole = processors.without_video(Sounding)
    parts = [processor.image_processor, processor.tokenizer]
    made = whole.from_args_and_dict(parts, {"marks": True, "chat_template": "{{ 1 }}"})
    assert [made.image_processor, made.tokenizer] == parts
    assert (made.marks, made.chat_template) == (True, "{{ 1 }}")
    assert type(made).__name__ == "Sounding"
    by_hand = whole(parts[0], None, parts[1])
    assert [by_hand.image_processor, by_hand.tokenizer] == parts

    class Seeing(hf.ProcessorMixin):
        def __init__(self, feature_extractor, image_processor, tokenizer, video_processor):
            super().__init__(feature_extractor, image_processor, tokenizer, video_processor)

    made = processors.without_video(Seeing).from_args_and_dict(parts, {})
    assert [made.image_processor, made.tokenizer] == parts
    # Where they stand in front, as in most families, nothing is put between them.
    assert processors.without_video(hf.LlavaProcessor)._order == ("image_processor", "tokenizer")


def test_pickles_are_refused_before_they_are_read_and_convert_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr(torch, "load", lambda *_, **__: pytest.fail("a pickle was read"))
    folder = tiny_llava(tmp_path / "old", layers=1, hidden=32, safe=False)
    refused(WeightsError, "vg-engine convert", folder)
    (folder / "pytorch_model.bin").rename(folder / "shard.bin")
    (folder / INDEX).write_text('{"metadata": {}, "weight_map": {"a": "shard.bin"}}')
    refused(WeightsError, "vg-engine convert", folder)


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

    for online, words in ((True, "vg-engine convert"), (False, "the download is incomplete")):
        monkeypatch.setattr(loading, "_online", lambda online=online: online)
        with pytest.raises(WeightsError, match=words):
            loading.load_model(ModelSpec("x/y", device="cpu"), Auto)
    off, options = asked[0]
    assert off == "1"
    assert options["use_safetensors"] is True
    assert "DISABLE_SAFETENSORS_CONVERSION" not in os.environ


def test_internvl_has_no_video_part_and_is_left_alone_by_the_adapter_of_another_family(tmp_path):
    folder = tiny_internvl(tmp_path / "other", layers=1, hidden=32)
    spec = ModelSpec(str(folder), device="cpu")
    processor = InternVLAdapter().vg_load_model(spec).processor
    assert type(processor).get_attributes() == ["image_processor", "tokenizer"]
    assert processor.image_processor.backend == "pil"
    assert isinstance(processor.tokenizer, type(hf.AutoTokenizer.from_pretrained(folder)))
    module = loading.load_model(spec, InternVLAdapter.auto_class).train()
    before = module.config.text_config._attn_implementation
    refused(Unsupported, "for models of type 'internvl'", folder, module=module)
    assert module.config.text_config._attn_implementation == before
    assert module.training


def test_what_the_model_refuses_is_one_line_and_memory_says_what_to_do(copy, monkeypatch):
    with edited(copy / "processor_config.json") as settings:
        settings["image_processor"]["crop_size"] = {"height": 98, "width": 98}
    opened = opens(LlavaAdapter, copy)
    inputs = ask(opened)
    with pytest.raises(ModelError, match=r"^[^\n]*98[^\n]*do not belong together[^\n]*$"):
        opened.rows(inputs)

    def full(*_, **__):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 9 GiB")

    monkeypatch.setattr(type(opened.model.module.model), "forward", full)
    with pytest.raises(ModelError, match="smaller --batch-size"):
        opened.rows(inputs)
