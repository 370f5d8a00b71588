"""GLM-4.1V, 4.5V, 4.6V and GLM-OCR pass the public contract: limits that count frames."""

import transformers as hf
from building import fields, save, text_part, vocabulary
from families import ARRAYS, FIND, VICUNA, ask, checkpoint, contract, opens, prompted, shows, views
from tokenizers.processors import TemplateProcessing

from vg_engine.core.contract.prompt import Prompt
from vg_engine.model_adapters.families.glm4v import Glm4vAdapter
from vg_engine.model_adapters.families.glm4v_moe import Glm4vMoeAdapter
from vg_engine.model_adapters.families.glm46v import Glm46VAdapter
from vg_engine.model_adapters.families.glm_ocr import GlmOcrAdapter
from vg_engine.testing.tiny_qwen import qwen_processor

pytestmark = ARRAYS
NAMED = {
    f"<|{words}|>": name
    for name, words in fields("""image_start=begin_of_image image_end=end_of_image image=image
        video_start=begin_of_video video_end=end_of_video video=video""").items()
}
PICTURE = "<|begin_of_image|><|image|><|end_of_image|>"
# What zai-org/GLM-4.1V-9B-Thinking's template renders (looked up on a copy of the hub's file).
CHAT = (
    "[gMASK]<sop>{% for msg in messages %}"
    "{% if msg.role == 'system' %}{{ '<|system|>\n' }}{{ msg.content }}"
    "{% elif msg.role == 'user' %}{{ '<|user|>\n' }}{% for item in msg.content %}"
    "{% if item.type == 'image' %}" + PICTURE + "{% elif item.type == 'text' %}"
    "{{ item.text }}{% endif %}{% endfor %}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>\n' }}{% endif %}"
)
CHAT_IDS = (258, 259, 261, 198, 263, 265, 264, 83, 71, 68, 220, 66, 84, 79, 13, 262, 198)
TURN = f"<|user|>\n{PICTURE}"
GOLDEN = (
    prompted(f"[gMASK]<sop>{VICUNA} {PICTURE}\nthe cup.", form="bare"),
    prompted(f"[gMASK]<sop>Look. {PICTURE}\nwhich cup?", "which cup?", form="bare", system="Look."),
    prompted(f"[gMASK]<sop>{TURN}the cup.<|assistant|>\n", ids=CHAT_IDS),
    prompted(f"[gMASK]<sop>{TURN}Find the cup.\nNow<|assistant|>\n", **FIND | {"system": None}),
)
ROPE = {"rope_type": "default", "rope_theta": 10000.0, "mrope_section": [1, 1, 2]}
VISION = fields("""depth=2 hidden_size=32 intermediate_size=64 num_heads=4 out_hidden_size=64
        image_size=112""")


def tokenizer():
    turns = ["[gMASK]", "<sop>", "<|system|>", "<|user|>", "<|assistant|>"]
    return vocabulary("pad=eos=<|endoftext|>", [*turns, *NAMED], merges=((".", "Ċ"),))


def tiny_glm(folder, config_class, model_class, *, tokens=(2, 96), partial=0.5, old=None, **text):
    """28 pixels per token, as the real ones have; a token costs them in both frames.

    `old` chooses GLM-4.1V's processor or, where false, GLM-4.6V's.
    """
    letters = tokenizer()
    if old is None:
        old = model_class in (hf.Glm4vForConditionalGeneration, hf.Glm4vMoeForConditionalGeneration)
    config = config_class(
        text_config={
            **text_part(letters),
            "rope_parameters": {**ROPE, "partial_rotary_factor": partial},
            **text,
        },
        vision_config=dict(VISION),
        **{f"{to}_token_id": letters.convert_tokens_to_ids(name) for name, to in NAMED.items()},
    )
    images = hf.Glm4vImageProcessorPil if old else hf.Glm46VImageProcessorPil
    kind = hf.Glm4vProcessor if old else hf.Glm46VProcessor
    processor = qwen_processor(kind, letters, chat=CHAT, tokens=tokens, image_class=images)
    return save(model_class, config, processor, folder)


FLASH = (hf.Glm4vConfig, hf.Glm4vForConditionalGeneration)
NEXT = (hf.Glm46VConfig, hf.Glm46VForConditionalGeneration)
OCR = (hf.GlmOcrConfig, hf.GlmOcrForConditionalGeneration)
MOE = (hf.Glm4vMoeConfig, hf.Glm4vMoeForConditionalGeneration)
# The first layer is dense, the others route each token to two of four experts.
EXPERTS = fields("""moe_intermediate_size=32 n_routed_experts=4 num_experts_per_tok=2
    first_k_dense_replace=1""")
TestGlm4v = contract(
    Glm4vAdapter,
    GOLDEN,
    lambda folder: tiny_glm(folder, *FLASH),
    foreign=("image_processor.merge_size", 1, (25, 4)),
)
TestGlm46V = contract(Glm46VAdapter, GOLDEN, lambda folder: tiny_glm(folder, *NEXT))
TestGlm4vMoe = contract(Glm4vMoeAdapter, GOLDEN, lambda folder: tiny_glm(folder, *MOE, **EXPERTS))
TestGlmOcr = contract(GlmOcrAdapter, GOLDEN, lambda folder: tiny_glm(folder, *OCR))
# The limits of GLM-4.1V's image processor: 112 x 112 and 28 x 28 x 15000 pixels.
real = checkpoint(tiny_glm, *FLASH, tokens=(16, 15000))


def test_limits_count_both_frames(real):
    opened = opens(Glm4vAdapter, real)
    # 15000 tokens' worth of pixels, and each token takes them twice.
    assert opened.model.statements == ("A picture becomes up to 7500 tokens of 28 x 28 pixels.",)
    shows(opened, (640, 480), (17, 23))
    few = opens(Glm4vAdapter, real, max_pixels=200 * 784)
    assert "up to 100 tokens" in few.model.statements[0]
    rows, cols = views(few, (640, 480))[0].shape
    assert 80 < rows * cols <= 100


def test_the_flash_models_of_a_later_release_bring_its_processor(tmp_path):
    """GLM-4.6V-Flash is of type `glm4v`, its processor GLM-4.6V's (looked up)."""
    folder = tiny_glm(tmp_path / "flash", *FLASH, tokens=(16, 15000), old=False)
    assert '"Glm46VImageProcessor"' in (folder / "processor_config.json").read_text("utf-8")
    opened = opens(Glm4vAdapter, folder)
    assert type(opened.model.processor.image_processor) is hf.Glm46VImageProcessorPil
    assert views(opened, (640, 480))[0].shape == (17, 23)


def test_a_system_sentence_is_plain_text_and_opening_tokens_are_never_doubled(real):
    """Also by a tokenizer that would write them itself."""
    opened = opens(Glm4vAdapter, real)
    inputs = ask(opened, prompt=Prompt("chat", system="See."))
    assert inputs.rendered[0].startswith("[gMASK]<sop><|system|>\nSee.<|user|>")
    known = opened.model.processor.tokenizer
    opens_with = [(name, known.convert_tokens_to_ids(name)) for name in ("[gMASK]", "<sop>")]
    known.backend_tokenizer.post_processor = TemplateProcessing(
        single="[gMASK] <sop> $A", special_tokens=opens_with
    )
    for prompt in (Prompt(), Prompt("chat")):
        text = known.decode(ask(opened, prompt=prompt).tensors["input_ids"][0])
        assert text.count("[gMASK]") == text.count("<sop>") == 1


def test_published_files_give_the_same_rows(tmp_path, same_rows):
    """zai-org/GLM-4.1V-9B-Thinking: rotation in three settings, a switch that nothing reads.

    Of these files the template was seen on a copy; the settings are from memory.
    """

    def config(stated):
        text = stated["text_config"]
        rope = text.pop("rope_parameters")
        text["rope_scaling"] = {"type": "default", "mrope_section": rope["mrope_section"]}
        text |= {name: rope[name] for name in ("rope_theta", "partial_rotary_factor")}
        stated["vision_config"].pop("rope_parameters")

    images = fields("""do_rescale=true image_mean=[0.48145466,0.4578275,0.40821073] merge_size=2
        image_std=[0.26862954,0.26130258,0.27577711] image_processor_type=Glm4vImageProcessor
        patch_expand_factor=1 patch_size=14 processor_class=Glm4vProcessor temporal_patch_size=2
        size={"longest_edge":9633792,"shortest_edge":12544}""")
    folder = tiny_glm(tmp_path / "m", *FLASH, tokens=(16, 12288))
    same_rows(Glm4vAdapter, folder, images, config=config)
