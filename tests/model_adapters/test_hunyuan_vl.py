"""HunYuan-VL passes the public contract: newlines, begin and end among the image tokens."""

import numpy as np
import transformers as hf
from building import edited, fields, save, text_part, vision_part, vocabulary
from families import FIND, VICUNA, ask, contract, loaded, opens, prompted, shows, views

from vg_engine.core.contract.inputs import Expression
from vg_engine.model_adapters.families.hunyuan_vl import HunYuanVLAdapter
from vg_engine.testing import noise
from vg_engine.testing.tiny_qwen import qwen_processor

BEGIN, PAD = "<｜hy_begin▁of▁sentence｜>", "<｜hy_▁pad▁｜>"
END_OF_SYSTEM, USER = "<｜hy_place▁holder▁no▁3｜>", "<｜hy_User｜>"
MARK = "<｜hy_place▁holder▁no▁{}｜>"
NAMED = {"image_start_token": MARK.format(100), "image_end_token": MARK.format(101)}
NAMED["image_token"] = MARK.format(102)
PICTURE = NAMED["image_start_token"] + NAMED["image_token"] + NAMED["image_end_token"]
# From prompts in public code that runs tencent/HunyuanOCR (vLLM among others).
CHAT = (
    "{% for message in messages %}{% if message['role'] == 'system' %}" + BEGIN + "{% endif %}"
    "{% if message['role'] == 'user' and loop.first %}" + BEGIN + "{% endif %}"
    "{% for content in message['content'] %}{% if content['type'] == 'image' %}" + PICTURE + ""
    "{% elif content['type'] == 'text' %}{{ content['text'] }}{% endif %}{% endfor %}"
    "{% if message['role'] == 'system' %}" + END_OF_SYSTEM + "{% else %}" + USER + "{% endif %}"
    "{% endfor %}"
)
IDS = (257, 259, 261, 263, 262, 86, 71, 72, 66, 71, 220, 66, 84, 79, 30)
ROPE = {"alpha": 1000.0, "factor": 1.0, "xdrope_section": [2, 2, 2, 2]}
GOLDEN = (
    prompted(f"{BEGIN}{VICUNA}{END_OF_SYSTEM}{PICTURE}the cup.", form="bare"),
    prompted(
        f"{BEGIN}{END_OF_SYSTEM}{PICTURE}which cup?", "which cup?", form="bare", system="", ids=IDS
    ),
    prompted(f"{BEGIN}{PICTURE}the cup.{USER}"),
    prompted(f"{BEGIN}See.{END_OF_SYSTEM}{PICTURE}Find the cup.\nNow{USER}", **FIND),
)


def tiny_hunyuan(folder, tokens=(1, 48)):
    """32 pixels per token and four axes of positions, as HunyuanOCR has them."""
    special = f"bos={BEGIN} pad={PAD} {END_OF_SYSTEM} {USER}"
    tokenizer = vocabulary(special, NAMED, merges=((".", "Ċ"),))
    rope = {**ROPE, "rope_theta": 10000.0, "rope_type": "xdrope"}
    config = hf.HunYuanVLConfig(
        text_config=text_part(tokenizer, "head_dim=16", rope_parameters=rope),
        vision_config=vision_part("max_image_size=256"),
        image_token_id=tokenizer.image_token_id,
    )
    images = {"image_class": hf.HunYuanVLImageProcessorPil, "patch_size": 16, "tokens": tokens}
    processor = qwen_processor(hf.HunYuanVLProcessor, tokenizer, chat=CHAT, **images)
    kind = hf.HunYuanVLForConditionalGeneration
    scaled = (2.0, "query_layernorm.weight", "key_layernorm.weight")
    return save(kind, config, processor, folder, scaled=scaled)


TestHunYuanVL = contract(
    HunYuanVLAdapter, GOLDEN, tiny_hunyuan, foreign=("cat_extra_token", False, (8, 6))
)
# The limits of the family's image processor: 512 x 512 and 2048 x 2048 pixels.
opened = loaded(HunYuanVLAdapter, tiny_hunyuan, tokens=(256, 4096))


def test_tokens_that_are_no_cells_are_left_out(opened):
    assert opened.model.statements == ("A picture becomes up to 4096 tokens of 32 x 32 pixels.",)
    inputs = ask(opened, (640, 480))
    view = shows(opened, (640, 480), (15, 20))
    ids = inputs.tensors["input_ids"][0].numpy()
    pictured = np.flatnonzero(ids == opened.model.processor.image_token_id)
    assert len(pictured) == 15 * 21 + 2
    assert views(opened, (100, 100))[0].shape == (16, 16)
    newlines = set(pictured) - set(view.positions.ravel())
    behind = {int(row[-1]) + 1 for row in view.positions}
    assert newlines == {pictured[0], pictured[-1], *behind}


def test_positions_name_column_row_and_picture(opened):
    inputs = ask(opened, (640, 480))
    (view,) = opened.views(inputs)[0]
    positions = inputs.tensors["position_ids"][:, 0].numpy()
    assert len(positions) == 4
    for (row, col), at in np.ndenumerate(view.positions):
        assert positions[:, at].tolist() == [at, col, row, 0]


def test_every_picture_of_a_batch_is_the_first_of_its_sequence(opened):
    """The rule of transformers 5.23 counts on through the batch."""
    pictures = [noise((640, 480)), noise((64, 64))]
    inputs = opened.prepare(pictures, [Expression(0, "it"), Expression(1, "it")])
    for query, (view,) in zip(inputs.queries, opened.views(inputs), strict=True):
        where = inputs.tensors["position_ids"][:, query.sequence, view.positions.ravel()]
        assert where[-1].tolist() == [0] * view.positions.size


def test_published_files_give_the_same_rows(tmp_path, published, change_of_rows):
    """tencent/HunyuanOCR, from public code that runs it: the text part's settings by the side of
    the others in words of its own, and a tokenizer that names none of the picture's tokens."""

    def config(stated):
        text = stated.pop("text_config")
        for name in ("model_type", "rope_parameters"):
            del text[name]
        text["attention_head_dim"] = text.pop("head_dim")
        text["org_vocab_size"] = text["vocab_size"]
        more = {"beta_fast": 32, "beta_slow": 1, "mscale": 1.0, "mscale_all_dim": 1.0}
        text["rope_scaling"] = {"type": "xdrope", **ROPE, **more}
        stated |= text | {"rope_theta": 10000.0, "use_qk_norm": True}

    def rewrite(folder):
        images = fields("""image_mean=[0.48145466,0.4578275,0.40821073] merge_size=2
            image_std=[0.26862954,0.26130258,0.27577711] max_pixels=4194304 min_pixels=262144
            image_processor_type=HunYuanVLImageProcessor patch_size=16
            processor_class=HunYuanVLProcessor temporal_patch_size=1""")
        published(folder, images, config=config)
        with edited(folder / "tokenizer_config.json") as stated:
            for name in NAMED:
                del stated[name]

    folder = tiny_hunyuan(tmp_path / "m", tokens=(256, 4096))
    assert change_of_rows(HunYuanVLAdapter, folder, rewrite, "chat") < 1e-6
    (folder / "processor_config.json").write_text('{"cat_extra_token": false}', encoding="utf-8")
    assert not opens(HunYuanVLAdapter, folder).model.processor.cat_extra_token
