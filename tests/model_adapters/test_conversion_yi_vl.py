"""Yi-VL's original files become ours: against a model put together by hand under its own names."""

import json

import pytest
import torch
from families import fields
from originals import grounded_in_both_forms, loaded, restate, reweigh
from safetensors.torch import save_file
from transformers import CLIPVisionConfig, CLIPVisionModel, LlamaConfig, LlamaForCausalLM

from vg_engine.core.errors import InputError, WeightsError
from vg_engine.model_adapters.conversion import formats, pipeline
from vg_engine.model_adapters.conversion.pipeline import Folders
from vg_engine.model_adapters.conversion.yi_vl import YiVL
from vg_engine.model_adapters.families.yi_vl import YiVLAdapter
from vg_engine.model_adapters.modules.yi_vl import YiVLForConditionalGeneration
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
        vision = fields("""hidden_size=32 intermediate_size=48 num_hidden_layers=3
            num_attention_heads=2 image_size=56 patch_size=14 hidden_act=gelu""")
        self.tower = CLIPVisionModel(CLIPVisionConfig(**vision)).eval()
        text = fields("""hidden_size=48 intermediate_size=64 num_hidden_layers=2
            num_attention_heads=4 num_key_value_heads=2
            rope_parameters={"rope_type":"default","rope_theta":5000000.0}""")
        config = LlamaConfig(vocab_size=len(self.tokenizer), **text)
        self.language_model = LlamaForCausalLM(config).eval()
        linear, norm = torch.nn.Linear, torch.nn.LayerNorm
        self.projector = torch.nn.Sequential(
            linear(32, 48), norm(48), torch.nn.GELU(), linear(48, 48), norm(48)
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
        description = {
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
            description[name] = getattr(config, name)
        vit = folder / "vit" / TOWER
        vit.mkdir(parents=True)
        (folder / "config.json").write_text(json.dumps(description))
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


def check_same_logits(original, folder):
    module = loaded(YiVLForConditionalGeneration, folder)
    before, after = torch.tensor([[256, 40, 41]]), torch.tensor([[198, 70, 71, 72, 13]])
    pixels = torch.randn(1, 3, 56, 56)
    ids = torch.cat([before, torch.full((1, 16), module.config.image_token_id), after], dim=1)
    with torch.no_grad():
        expected = original.logits(before, pixels, after)
        logits = module(input_ids=ids, pixel_values=pixels).logits
    # The row of the added image token is no original's.
    assert (logits[..., : expected.shape[-1]] - expected).abs().max() == 0
    text = module.config.text_config
    assert text.rope_parameters["rope_theta"] == 5e6
    assert logits.shape[-1] == text.vocab_size == len(original.tokenizer) + 1


def test_the_converted_model_computes_what_the_original_does(original, folder, tmp_path):
    report = convert(Folders(folder, tmp_path / "new"))
    assert report["format"] == "yi_vl"
    assert report["assumed_never_seen"] == []
    check_same_logits(original, tmp_path / "new")
    grown = {"lm_head.weight", "model.language_model.embed_tokens.weight"}
    assert set(report["rows_added"]) == grown


def test_the_adapter_opens_what_was_converted(folder, tmp_path):
    convert(Folders(folder, tmp_path / "new"))
    opened, inputs = grounded_in_both_forms(YiVLAdapter, tmp_path / "new")
    assert "### Human: <image>" in inputs.rendered[0]
    assert inputs.rendered[0].endswith("\nit.\n### Assistant:")
    assert "padded to a square" in opened.model.statements[0]


def test_a_tower_inside_the_weights_is_left_as_the_original_leaves_it(original, folder, tmp_path):
    """Its loader always takes the folder's."""
    stale = {
        f"model.vision_tower.vision_tower.vision_model.{k}": torch.zeros_like(v)
        for k, v in original.tower.state_dict().items()
    }
    reweigh(folder, more=stale)
    report = convert(Folders(folder, tmp_path / "new"))
    assert len(report["dropped"]) == len(stale) + 1
    check_same_logits(original, tmp_path / "new")


def test_another_place_of_the_tower_can_be_given(original, folder, tmp_path):
    place = tmp_path / "tower"
    (folder / "vit" / TOWER).rename(place)
    with pytest.raises(InputError, match=f"lacks its vision tower .*{TOWER}.*--vision-tower DIR"):
        convert(Folders(folder, tmp_path / "new"))
    convert(Folders(folder, tmp_path / "new", vision_tower=place))
    check_same_logits(original, tmp_path / "new")
    # A config may name no folder outside of the checkpoint.
    restate(folder, mm_vision_tower=str(place))
    with pytest.raises(InputError, match="lacks its vision tower"):
        convert(Folders(folder, tmp_path / "other"))


@pytest.mark.parametrize("key", ["model.mm_projector.1.weight", "model.norm.weight"])
def test_a_key_that_is_missing_is_named(folder, tmp_path, key):
    reweigh(folder, gone=key)
    with pytest.raises(WeightsError, match="1 missing"):
        convert(Folders(folder, tmp_path / "new"))
    assert not (tmp_path / "new").exists()


def test_it_claims_its_own_projector_alone():
    config = fields("""architectures=["LlavaLlamaForCausalLM"] model_type=llava
        mm_projector_type=mlp2x_gelu_Norm""")
    assert isinstance(formats.converter_for(config, [YiVL()], name="Yi-VL-6B"), YiVL)
    assert not YiVL().claims(config | {"mm_projector_type": "mlp2x_gelu"})
    assert not YiVL().claims({"model_type": "llava"})
