"""Mini-Gemini's original files become ours: against the original's parts, put together by hand."""

import json
import math
import shutil

import pytest
import torch
from families import fields
from originals import grounded_in_both_forms, loaded, restate, reweigh
from safetensors.torch import load_file, save_file
from torch import nn
from torch.nn import functional
from transformers import (
    CLIPVisionConfig,
    CLIPVisionModel,
    GemmaConfig,
    GemmaForCausalLM,
    LlamaConfig,
    LlamaForCausalLM,
)

from vg_engine.core.errors import InputError, UnsupportedModelError, WeightsError
from vg_engine.model_adapters.conversion import formats, pipeline
from vg_engine.model_adapters.conversion.mini_gemini import MiniGemini
from vg_engine.model_adapters.conversion.pipeline import Folders
from vg_engine.model_adapters.families.mini_gemini import MiniGeminiAdapter
from vg_engine.model_adapters.modules.mini_gemini import MiniGeminiForConditionalGeneration
from vg_engine.testing.tiny import byte_tokenizer

CLIP = "clip-vit-tiny-patch14-56"
CONVNEXT = "openclip-convnext-large-d-320-laion2B-s29B-b131K-ft-soup"
SPECIAL = ["<pad>", "<eos>", "<bos>", "<start_of_turn>", "<end_of_turn>"]
WIDTHS, DEPTHS = (8, 12, 16, 24), (1, 2, 3, 1)


# The ConvNeXt as timm names and computes it.


class Norm2d(nn.LayerNorm):
    def forward(self, x):
        return super().forward(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class Block(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.conv_dw = nn.Conv2d(width, width, 7, padding=3, groups=width)
        self.norm = nn.LayerNorm(width, eps=1e-6)
        self.mlp = nn.Module()
        self.mlp.fc1 = nn.Linear(width, 4 * width)
        self.mlp.fc2 = nn.Linear(4 * width, width)
        self.gamma = nn.Parameter(torch.rand(width))

    def forward(self, x):
        inner = self.norm(self.conv_dw(x).permute(0, 2, 3, 1))
        inner = self.mlp.fc2(functional.gelu(self.mlp.fc1(inner))) * self.gamma
        return x + inner.permute(0, 3, 1, 2)


class Stage(nn.Module):
    def __init__(self, before, width, depth):
        super().__init__()
        smaller = before and (Norm2d(before, eps=1e-6), nn.Conv2d(before, width, 2, stride=2))
        self.downsample = nn.Sequential(*smaller) if smaller else nn.Identity()
        self.blocks = nn.Sequential(*(Block(width) for _ in range(depth)))

    def forward(self, x):
        return self.blocks(self.downsample(x))


class Trunk(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, WIDTHS[0], 4, stride=4), Norm2d(WIDTHS[0], eps=1e-6))
        self.stages = nn.Sequential(*map(Stage, (None, *WIDTHS), WIDTHS, DEPTHS))

    def forward(self, x):
        maps = [self.stem(x)]
        for stage in self.stages:
            maps.append(stage(maps[-1]))
        first, *others = maps[1:]
        size = first.shape[-2:]
        others = [functional.interpolate(each, size=size, mode="bilinear") for each in others]
        return torch.cat([first, *others], dim=1)


# The rest.


def projector(*widths):
    made = nn.Sequential(nn.LayerNorm(widths[0]), nn.Linear(*widths))
    for parameter in made.parameters():
        nn.init.normal_(parameter, std=0.3)
    return made


class Original:
    """The parts of the published model, each under the name that it has there."""

    def __init__(self, text):
        torch.manual_seed(7)
        self.text = text
        self.tokenizer = byte_tokenizer(
            SPECIAL, pad_token=SPECIAL[0], eos_token=SPECIAL[1], bos_token=SPECIAL[2]
        )
        vision = fields("""hidden_size=64 intermediate_size=48 num_hidden_layers=3
            num_attention_heads=1 image_size=56 patch_size=14""")
        self.tower = CLIPVisionModel(CLIPVisionConfig(**vision)).eval()
        sizes = fields("hidden_size=48 intermediate_size=64 num_hidden_layers=2")
        sizes |= {"vocab_size": len(self.tokenizer), "num_attention_heads": 4}
        if text == "gemma":
            config = GemmaConfig(**sizes, num_key_value_heads=1, head_dim=20)
            self.language_model = GemmaForCausalLM(config).eval()
        else:
            config = LlamaConfig(**sizes, num_key_value_heads=4)
            self.language_model = LlamaForCausalLM(config).eval()
        self.trunk = Trunk()
        widths = {"query": 64, "aux": sum(WIDTHS), "val": sum(WIDTHS)}
        parts = {f"vlm_uni_{k}_projector": projector(width, 64) for k, width in widths.items()}
        parts["mm_projector"] = nn.Sequential(nn.Linear(64, 48), nn.GELU(), nn.Linear(48, 48))
        self.parts = nn.ModuleDict(parts)

    def features(self, small, large):
        """A picture's tokens, one token at a time."""
        tokens = self.tower(small, output_hidden_states=True).hidden_states[-2][0, 1:]
        detail = self.trunk(large)[0]
        grid, cells = math.isqrt(len(tokens)), detail.shape[-1] // math.isqrt(len(tokens))
        found = []
        for at, token in enumerate(tokens):
            top, left = at // grid * cells, at % grid * cells
            own = detail[:, top : top + cells, left : left + cells].flatten(1).T
            query = self.parts["vlm_uni_query_projector"](token)
            scores = self.parts["vlm_uni_aux_projector"](own) @ query / query.shape[-1] ** 0.5
            found.append(token + scores.softmax(0) @ self.parts["vlm_uni_val_projector"](own))
        return self.parts["mm_projector"](torch.stack(found))[None]

    def logits(self, before, small, large, after):
        # Gemma's embedding scales; the original's Gemma scaled all that came in, pictures too.
        scale = 48**0.5 if self.text == "gemma" else 1.0
        embed = self.language_model.get_input_embeddings()
        seen = scale * self.features(small, large)
        whole = torch.cat([embed(before), seen, embed(after)], dim=1)
        return self.language_model(inputs_embeds=whole).logits

    def write(self, folder, *, towers):
        """`towers`: "inside" the weights, or each "beside" the other in a folder of its own."""
        config = self.language_model.config
        name = {"gemma": "MGMGemmaForCausalLM", "llama": "MiniGeminiLlamaForCausalLM"}[self.text]
        description = {
            "architectures": [name],
            **fields("""mm_projector_type=mlp2x_gelu mm_vision_select_layer=-2
                mm_hidden_size=64 image_aspect_ratio=pad image_size_aux=128"""),
            "mm_vision_tower": f"model_zoo/OpenAI/{CLIP}",
            "mm_vision_tower_aux": f"model_zoo/OpenAI/{CONVNEXT}",
            "mm_hidden_size_aux": sum(WIDTHS),
        }
        for entry in (
            *("vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers", "head_dim"),
            *("num_attention_heads", "num_key_value_heads", "rms_norm_eps", "hidden_act"),
        ):
            description[entry] = getattr(config, entry)
        weights = {k: v.clone() for k, v in self.language_model.state_dict().items()}
        weights |= {f"model.{k}": v for k, v in self.parts.state_dict().items()}
        clip = {f"vision_model.{k}": v for k, v in self.tower.state_dict().items()}
        trunk = self.trunk.state_dict()
        if towers == "inside":
            weights |= {f"model.vision_tower.vision_tower.{k}": v for k, v in clip.items()}
            weights |= {f"model.vision_tower_aux.vision_{k}": v for k, v in trunk.items()}
        else:
            self._write_towers(folder.parent / "OpenAI", clip, trunk)
        folder.mkdir(parents=True)
        (folder / "config.json").write_text(json.dumps(description))
        save_file(weights, folder / "model.safetensors")
        self.tokenizer.save_pretrained(folder)
        return folder

    def _write_towers(self, zoo, clip, trunk):
        (zoo / CLIP).mkdir(parents=True)
        self.tower.config.save_pretrained(zoo / CLIP)
        save_file(clip, zoo / CLIP / "model.safetensors")
        (zoo / CONVNEXT).mkdir()
        (zoo / CONVNEXT / "open_clip_config.json").write_text("{}")
        # A whole OpenCLIP model: heads and its text side, too.
        more = """visual.trunk.head.norm.weight visual.head.mlp.fc1.weight logit_scale
            positional_embedding transformer.resblocks.0.ln_1.weight text_projection"""
        whole = {f"visual.trunk.{k}": v for k, v in trunk.items()}
        whole |= {key: torch.zeros(3) for key in more.split()}
        torch.save(whole, zoo / CONVNEXT / "open_clip_pytorch_model.bin")


def convert(folders, **more):
    return pipeline.convert(folders, [MiniGemini()], **more)


@pytest.fixture(scope="module", params=["gemma", "llama"])
def original(request):
    return Original(request.param)


@pytest.fixture
def inside(tmp_path):
    return Original("gemma").write(tmp_path / "MGM", towers="inside")


@pytest.fixture
def beside(tmp_path):
    return Original("gemma").write(tmp_path / "MGM", towers="beside")


def check_same_logits(original, folder):
    module = loaded(MiniGeminiForConditionalGeneration, folder)
    before, after = torch.tensor([[258, 40, 41]]), torch.tensor([[198, 70, 71, 72, 13]])
    small, large = torch.randn(1, 3, 56, 56), torch.randn(1, 3, 128, 128)
    ids = torch.cat([before, torch.full((1, 16), module.config.image_token_id), after], dim=1)
    with torch.no_grad():
        seen = original.trunk(large)
        assert (module.model.vision_tower_aux(large) - seen).abs().max() == 0
        expected = original.logits(before, small, large, after)
        logits = module(input_ids=ids, pixel_values=small, pixel_values_aux=large).logits
        # Not one of them hangs on the text alone.
        blind = original.logits(before, small, large.flip(-1), after)
    assert (blind - expected).abs().max() > 1e-3
    # Our mining adds in another order than one token at a time.
    assert (logits[..., : expected.shape[-1]] - expected).abs().max() < 1e-6
    return module


@pytest.mark.parametrize("towers", ["inside", "beside"])
def test_the_converted_model_computes_what_the_original_does(original, tmp_path, towers):
    folder = original.write(tmp_path / "MGM", towers=towers)
    tower = tmp_path / "OpenAI" / CLIP if towers == "beside" else None
    report = convert(Folders(folder, tmp_path / "new", vision_tower=tower))
    assert report["format"] == "mini_gemini"
    module = check_same_logits(original, tmp_path / "new")
    aux = module.config.aux_config
    assert (aux.hidden_sizes, aux.depths) == (list(WIDTHS), list(DEPTHS))
    assert module.config.image_size_aux == 128
    # Every tensor is the original's, bit by bit, but for the row that was added.
    ours = module.state_dict()
    prefix = "model.vision_tower_aux.convnext."
    assert torch.equal(
        ours[prefix + "encoder.stages.2.layers.1.pwconv1.weight"],
        original.trunk.stages[2].blocks[1].mlp.fc1.weight,
    )
    for name, tensor in original.parts.state_dict().items():
        new = name.replace("mm_projector", "multi_modal_projector")
        inside = "mining." if "vlm" in name else ""
        assert torch.equal(ours[f"model.{inside}{new}"], tensor)


def test_only_what_openclip_has_beside_its_convnext_is_assumed(beside, tmp_path):
    report = convert(Folders(beside, tmp_path / "new", vision_tower=tmp_path / "OpenAI" / CLIP))
    assert [rule["tensors"] for rule in report["assumed_never_seen"]] == [6]
    assert "logit_scale" in report["dropped"]
    # Gemma's output head is its embedding; the file's copy is not written.
    assert "lm_head.weight" in report["dropped"]
    assert "lm_head.weight" not in load_file(tmp_path / "new" / "model.safetensors")


def test_the_adapter_opens_what_was_converted(original, tmp_path):
    convert(Folders(original.write(tmp_path / "MGM", towers="inside"), tmp_path / "new"))
    _, inputs = grounded_in_both_forms(MiniGeminiAdapter, tmp_path / "new")
    assert inputs.tensors["pixel_values_aux"].shape == (1, 3, 128, 128)
    description = inputs.rendered[0]
    if original.text == "gemma":
        assert description.startswith("<start_of_turn>user\n<image>")
        assert description.endswith(">\nit.<end_of_turn>\n<start_of_turn>model\n")
    else:
        assert "user's questions. USER: <image>" in description
        assert description.endswith(">\nit. ASSISTANT:")


def test_a_tower_that_is_missing_is_named_with_its_place(beside, tmp_path):
    given, high = tmp_path / "OpenAI" / CLIP, tmp_path / "OpenAI" / CONVNEXT
    with pytest.raises(InputError, match=f"{CLIP} and {CONVNEXT} into one folder"):
        convert(Folders(beside, tmp_path / "new"))
    high.rename(tmp_path / "elsewhere")
    with pytest.raises(InputError, match=f"there is no {CONVNEXT}"):
        convert(Folders(beside, tmp_path / "new", vision_tower=given))
    high.mkdir()
    with pytest.raises(WeightsError, match=r"open_clip_pytorch_model\.bin"):
        convert(Folders(beside, tmp_path / "new", vision_tower=given))


def test_two_towers_or_incomplete_weights_are_refused(inside, tmp_path):
    shutil.copytree(inside, tower := tmp_path / "tower")
    folders = Folders(inside, tmp_path / "new")
    with pytest.raises(InputError, match="leave --vision-tower out"):
        convert(Folders(inside, tmp_path / "new", vision_tower=tower))
    for gone, words in (
        ("model.vlm_uni_val_projector.0.bias", r"1 missing \(model\.mining\.vlm_uni_val_projector"),
        ("vision_stages.3", "no whole ConvNeXt"),
    ):
        reweigh(inside, gone=gone)
        with pytest.raises(WeightsError, match=words):
            convert(folders)
    restate(inside, image_grid=2)
    with pytest.raises(UnsupportedModelError, match="HD variant"):
        convert(folders)


def test_it_claims_the_original_architectures_alone():
    for name in ("MGMGemmaForCausalLM", "MiniGeminiGemmaForCausalLM", "MGMLlamaForCausalLM"):
        found = formats.converter_for({"architectures": [name]}, [MiniGemini()], name="MGM")
        assert isinstance(found, MiniGemini)
    for other in ("MGMMixtralForCausalLM", "LlavaLlamaForCausalLM"):
        assert not MiniGemini().claims({"architectures": [other]})
