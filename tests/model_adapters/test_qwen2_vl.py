"""Qwen2-VL and Qwen2.5-VL pass the public contract: merged patches, positions of three axes."""

import json

import numpy as np
import pytest
import transformers as hf
from building import edited, fields, save, text_part
from families import (
    FIND,
    VICUNA,
    ask,
    chatml,
    contract,
    opens,
    prompted,
    refuses,
    rows_of,
    shows,
    views,
)

from vg_engine.core.errors import InputError, PictureError
from vg_engine.model_adapters.families.qwen2_5_vl import Qwen25VLAdapter
from vg_engine.model_adapters.families.qwen2_vl import Qwen2VLAdapter
from vg_engine.testing import open_adapter
from vg_engine.testing.tiny_qwen import (
    CHAT_WITH_SYSTEM,
    qwen_processor,
    qwen_tokenizer,
    tiny_qwen2_vl,
    token_ids,
)

PICTURE = "<|vision_start|><|image_pad|><|vision_end|>"
SYSTEM = "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n"
GOLDEN = (
    prompted(f"{VICUNA} {PICTURE}\nthe cup.", form="bare"),
    prompted(f"Look. {PICTURE}\nwhich cup?", "which cup?", form="bare", system="Look."),
    # The chat template (looked up on copies of the hub's files) speaks for the system.
    prompted(
        SYSTEM + chatml(f"{PICTURE}the cup."),
        ids=(
            *(259, 82, 88, 82, 83, 68, 76, 198, 56, 78, 84, 220, 64, 81, 68, 220, 64, 220),
            *(71, 68, 75, 79, 69, 84, 75, 220, 64, 82, 82, 72, 82, 83, 64, 77, 83, 13, 258),
            *(198, 259, 84, 82, 68, 81, 198, 260, 262, 261, 83, 71, 68, 220, 66, 84, 79, 13),
            *(258, 198, 259, 64, 82, 82, 72, 82, 83, 64, 77, 83, 198),
        ),
    ),
    prompted(chatml(f"{PICTURE}Find the cup.\nNow", "See."), **FIND),
)
ROPE = {"rope_type": "default", "mrope_section": [2, 3, 3]}


def tiny_qwen2_5_vl(folder, tokens=(1, 48), **text):
    """The tower attends in windows of 2 x 2 tokens, and reorders patches into them and back."""
    tokenizer = qwen_tokenizer()
    config = hf.Qwen2_5_VLConfig(
        text_config={**text_part(tokenizer), "rope_parameters": dict(ROPE), **text},
        vision_config=fields("""depth=2 hidden_size=32 intermediate_size=64 num_heads=4
                out_hidden_size=64 window_size=56 fullatt_block_indexes=[1]"""),
        **token_ids(tokenizer),
    )
    processor = qwen_processor(
        hf.Qwen2_5_VLProcessor, tokenizer, chat=CHAT_WITH_SYSTEM, tokens=tokens
    )
    return save(hf.Qwen2_5_VLForConditionalGeneration, config, processor, folder)


TestQwen2VL = contract(Qwen2VLAdapter, GOLDEN, tiny_qwen2_vl)
TestQwen25VL = contract(Qwen25VLAdapter, GOLDEN, tiny_qwen2_5_vl)


# The last two layers see less than a sequence holds.
WINDOW = {"use_sliding_window": True, "sliding_window": 64, "max_window_layers": 2}
TestQwen25VLSlidingWindow = contract(
    Qwen25VLAdapter, GOLDEN, lambda folder: tiny_qwen2_5_vl(folder, tokens=(1, 24), **WINDOW)
)


@pytest.fixture(scope="module")
def real(tmp_path_factory):
    """The limits that Qwen/Qwen2-VL-7B-Instruct states in its preprocessor_config.json."""
    folder = tiny_qwen2_vl(tmp_path_factory.mktemp("qwen2_vl") / "real")
    stated = fields("""image_processor_type=Qwen2VLImageProcessor
            processor_class=Qwen2VLProcessor min_pixels=3136 max_pixels=12845056 patch_size=14
            temporal_patch_size=2 merge_size=2 image_mean=[0.48145466,0.4578275,0.40821073]
            image_std=[0.26862954,0.26130258,0.27577711]""")
    (folder / "processor_config.json").unlink()
    (folder / "preprocessor_config.json").write_text(json.dumps(stated), encoding="utf-8")
    return folder


def test_real_settings_make_the_known_number_of_tokens(real):
    opened = opens(Qwen2VLAdapter, real)
    assert opened.model.statements == ("A picture becomes up to 16384 tokens of 28 x 28 pixels.",)
    # 640 / 28 = 22.86 and 480 / 28 = 17.14: the picture is squashed to 644 x 476.
    shows(opened, (640, 480), (17, 23))
    with pytest.raises(PictureError, match=r"refuses a picture of 2 x 402 .* enlarge it or cut it"):
        views(opened, (2, 402))
    assert views(opened, (2, 400))[0].shape[1] == 1
    refuses(opened, "image_processor.merge_size", 1, (400, 100), (280, 280), "20 x 20")


@pytest.mark.parametrize(
    ("adapter", "build"), [(Qwen2VLAdapter, tiny_qwen2_vl), (Qwen25VLAdapter, tiny_qwen2_5_vl)]
)
def test_the_hubs_flat_config_gives_the_same_rows(tmp_path, adapter, build):
    """Real checkpoints state the decoder's sizes beside the parts, and the rotation's old names."""
    folder = build(tmp_path / "flat")

    expected = rows_of(adapter, folder)
    with edited(folder / "config.json") as config:
        text = config.pop("text_config")
        for name in ("model_type", "rope_parameters", "layer_types"):
            text.pop(name)
        config["vision_config"].pop("model_type")
        config["rope_scaling"] = {"type": "mrope", "mrope_section": ROPE["mrope_section"]}
        config |= {**text, **config, "rope_theta": 1000000.0}
    assert adapter.claims(config)
    assert (rows_of(adapter, folder) - expected).abs().max() < 1e-6


def test_limits_are_options(real):
    opened = opens(Qwen2VLAdapter, real, max_pixels=100 * 784)
    assert views(opened, (640, 480))[0].shape == (8, 11)
    assert "up to 100 tokens" in opened.model.statements[0]
    with pytest.raises(InputError, match="max_pixels 10: give 784 or more pixels"):
        opens(Qwen2VLAdapter, real, max_pixels=10)
    with pytest.raises(InputError, match="min_pixels 8000 is more than max_pixels 7840"):
        opens(Qwen2VLAdapter, real, max_pixels=7840, min_pixels=8000)


def test_limits_do_not_change_the_users_own_processor(real):
    first = opens(Qwen2VLAdapter, real)
    theirs, module = first.model.processor, first.model.module
    options = {"min_pixels": 784, "max_pixels": 7840}
    second = open_adapter(Qwen2VLAdapter(), "", options=options, module=module, processor=theirs)
    assert second.model.processor.image_processor.size["longest_edge"] == 7840
    assert theirs.image_processor.size["longest_edge"] == 12845056


def test_text_goes_on_behind_the_larger_side_of_the_picture(real):
    """Three axes: time stands still, rows and columns are counted."""
    opened = opens(Qwen2VLAdapter, real)
    inputs = ask(opened, (280, 112))
    (view,) = opened.views(inputs)[0]
    positions = inputs.tensors["position_ids"][:, 0].numpy()
    first = positions[0, view.positions[0, 0] - 1] + 1
    for (row, col), at in np.ndenumerate(view.positions):
        assert positions[:, at].tolist() == [first, first + row, first + col]
    assert positions[:, view.positions[-1, -1] + 1].tolist() == [first + 10] * 3
