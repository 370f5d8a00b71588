"""Yi-VL's original files become ours: against a model put together by hand under its own names."""

import json

import pytest
import torch
from families import fields
from safetensors.torch import load_file, save_file
from transformers import CLIPVisionConfig, CLIPVisionModel, LlamaConfig, LlamaForCausalLM

from vg_engine.core.contract.inputs import Expression
from vg_engine.core.contract.prompt import Prompt
from vg_engine.core.errors import InputError, WeightsError
from vg_engine.model_adapters.conversion import formats, pipeline
from vg_engine.model_adapters.conversion.pipeline import Folders
from vg_engine.model_adapters.conversion.yi_vl import YiVL
from vg_engine.model_adapters.families.yi_vl import YiVLAdapter
from vg_engine.model_adapters.modules.yi_vl import YiVLForConditionalGeneration
from vg_engine.testing import noise, open_adapter
from vg_engine.testing.tiny import byte_tokenizer

TOWER = "clip-vit-H-14-laion2B-s32B-b79K-yi-vl-6B-448"
SPECIAL = ["<unk>", "<|startoftext|>", "<|endoftext|>"]


class Original:
    """The parts of the published model: tower, projector as one Sequential, Llama."""

    def __init__(self):
        torch.manual_seed(5)
        self.tokenizer = byte_tokenizer(
            SPECIAL, unk_token=SPECIAL[0], bos_token=SPECIAL[1], eos_token=SPECIAL[2]
        )
        self.tower = CLIPVisionModel(
            CLIPVisionConfig(
                **fields("""hidden_size=32 intermediate_size=48 num_hidden_layers=3
                    num_attention_heads=2 image_size=56 patch_size=14 hidden_act=gelu""")
            )
        ).eval()
        self.language_model = LlamaForCausalLM(
            LlamaConfig(
                vocab_size=len(self.tokenizer),
                **fields("""hidden_size=48 intermediate_size=64 num_hidden_layers=2
                    num_attention_heads=4 num_key_value_heads=2
                    rope_parameters={"rope_type":"default","rope_theta":5000000.0}"""),
            )
        ).eval()
        self.projector = torch.nn.Sequential(
            torch.nn.Linear(32, 48),
            torch.nn.LayerNorm(48),
            torch.nn.GELU(),
            torch.nn.Linear(48, 48),
            torch.nn.LayerNorm(48),
        )
        for parameter in self.projector.parameters():
            torch.nn.init.normal_(parameter)

    def logits(self, before, pixels, after):
        """As the original: embedded text, projected patches in between, more text."""
        embed = self.language_model.get_input_embeddings()
        seen = self.tower(pixels, output_hidden_states=True).hidden_states[-2][:, 1:]
        whole = torch.cat([embed(before), self.projector(seen), embed(after)], dim=1)
        return self.language_model(inputs_embeds=whole).logits

    def write(self, folder):
        weights = dict(self.language_model.state_dict())
        weights |= {f"model.mm_projector.{k}": v for k, v in self.projector.state_dict().items()}
        config = self.language_model.config
        said = {
            **fields("""architectures=["LlavaLlamaForCausalLM"] model_type=llava
                mm_projector_type=mlp2x_gelu_Norm mm_vision_select_layer=-2
                mm_vision_select_feature=patch image_aspect_ratio=pad rope_theta=5000000.0
                rope_scaling=null tie_word_embeddings=false"""),
            "mm_vision_tower": f"./vit/{TOWER}",
        }
        for name in (
            *("vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers"),
            *("num_attention_heads", "num_key_value_heads", "rms_norm_eps", "hidden_act"),
        ):
            said[name] = getattr(config, name)
        vit = folder / "vit" / TOWER
        vit.mkdir(parents=True)
        (folder / "config.json").write_text(json.dumps(said))
        save_file({k: v.contiguous() for k, v in weights.items()}, folder / "model.safetensors")
        self.tokenizer.save_pretrained(folder)
        self.tower.config.save_pretrained(vit)
        tower = {f"vision_model.{k}": v for k, v in self.tower.state_dict().items()}
        tower["vision_model.embeddings.position_ids"] = torch.arange(17)[None]
        save_file(tower, vit / "model.safetensors")
        return folder


def convert(folders, **more):
    return pipeline.convert(folders, [YiVL()], **more)


@pytest.fixture(scope="module")
def original():
    return Original()


@pytest.fixture
def folder(original, tmp_path):
    return original.write(tmp_path / "Yi-VL-6B")


def load(folder):
    module, info = YiVLForConditionalGeneration.from_pretrained(folder, output_loading_info=True)
    assert not any(info.values())
    return module.eval()


def check_same_logits(original, module):
    before, after = torch.tensor([[256, 40, 41]]), torch.tensor([[198, 70, 71, 72, 13]])
    pixels = torch.randn(1, 3, 56, 56)
    image = torch.full((1, 16), module.config.image_token_id)
    ids = torch.cat([before, image, after], dim=1)
    with torch.no_grad():
        expected = original.logits(before, pixels, after)
        logits = module(input_ids=ids, pixel_values=pixels).logits
    # The row of the added image token is no original's.
    assert (logits[..., : expected.shape[-1]] - expected).abs().max() == 0
    return logits


def test_the_converted_model_computes_what_the_original_does(original, folder, tmp_path):
    report = convert(Folders(folder, tmp_path / "new"))
    assert report["format"] == "yi_vl"
    assert report["assumed_never_seen"] == []
    module = load(tmp_path / "new")
    logits = check_same_logits(original, module)
    text = module.config.text_config
    assert text.rope_parameters["rope_theta"] == 5e6
    assert logits.shape[-1] == text.vocab_size == len(original.tokenizer) + 1
    grown = {"lm_head.weight", "model.language_model.embed_tokens.weight"}
    assert set(report["rows_added"]) == grown


def test_the_adapter_opens_what_was_converted(folder, tmp_path):
    convert(Folders(folder, tmp_path / "new"))
    opened = open_adapter(YiVLAdapter(), str(tmp_path / "new"))
    for form in ("bare", "chat"):
        inputs = opened.prepare([noise((90, 60))], [Expression(0, "it")], Prompt(form))
        (view,) = opened.views(inputs)[0]
        assert view.shape == (4, 4)
        assert opened.rows(inputs)[0].isfinite().all()
    assert "### Human: <image>" in inputs.rendered[0]
    assert inputs.rendered[0].endswith("\nit.\n### Assistant:")
    assert "padded to a square" in opened.model.statements[0]


def test_a_tower_inside_the_weights_is_left_as_the_original_leaves_it(original, folder, tmp_path):
    """Its loader always takes the folder's."""
    weights = load_file(folder / "model.safetensors")
    stale = {
        f"model.vision_tower.vision_tower.vision_model.{k}": torch.zeros_like(v)
        for k, v in original.tower.state_dict().items()
    }
    save_file(weights | stale, folder / "model.safetensors")
    report = convert(Folders(folder, tmp_path / "new"))
    assert len(report["dropped"]) == len(stale) + 1
    check_same_logits(original, load(tmp_path / "new"))


def test_another_place_of_the_tower_can_be_given(original, folder, tmp_path):
    (folder / "vit" / TOWER).rename(tmp_path / "tower")
    with pytest.raises(InputError, match=f"lacks its vision tower .*{TOWER}.*--vision-tower DIR"):
        convert(Folders(folder, tmp_path / "new"))
    convert(Folders(folder, tmp_path / "new", vision_tower=tmp_path / "tower"))
    check_same_logits(original, load(tmp_path / "new"))


def test_a_config_may_name_no_folder_outside_of_the_checkpoint(folder, tmp_path):
    (folder / "vit" / TOWER).rename(tmp_path / "tower")
    config = json.loads((folder / "config.json").read_text())
    config["mm_vision_tower"] = str(tmp_path / "tower")
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(InputError, match="lacks its vision tower"):
        convert(Folders(folder, tmp_path / "new"))


@pytest.mark.parametrize("key", ["model.mm_projector.1.weight", "model.norm.weight"])
def test_a_key_that_is_missing_is_named(folder, tmp_path, key):
    weights = load_file(folder / "model.safetensors")
    del weights[key]
    save_file(weights, folder / "model.safetensors")
    with pytest.raises(WeightsError, match="1 missing"):
        convert(Folders(folder, tmp_path / "new"))
    assert not (tmp_path / "new").exists()


def test_it_claims_its_own_projector_alone():
    config = {
        "architectures": ["LlavaLlamaForCausalLM"],
        "model_type": "llava",
        "mm_projector_type": "mlp2x_gelu_Norm",
    }
    assert isinstance(formats.converter_for(config, [YiVL()], name="Yi-VL-6B"), YiVL)
    assert not YiVL().claims(config | {"mm_projector_type": "mlp2x_gelu"})
    assert not YiVL().claims({"model_type": "llava"})
