"""GLM-5 with vision passes the public contract: filled-up pictures, linear and indexed layers."""

import transformers as hf
from building import chat, fields, processor_of, save, text_part, vocabulary
from families import ARRAYS, VICUNA, ask, contract, loaded, prompted, shows, views

from vg_engine.model_adapters.families.glm5_next import Glm5NextAdapter

pytestmark = ARRAYS
STOP, NEWLINE = 13, 198
NAMED = {
    f"<|{words}|>": name
    for name, words in fields("""image_start=begin_of_image image_end=end_of_image image=image
        video_start=begin_of_video video_end=end_of_video video=video""").items()
}
TURNS = ["[gMASK]", "<sop>", "<|system|>", "<|user|>", "<|assistant|>"]
PICTURE = "<|begin_of_image|><|image|><|end_of_image|>"
# The picture as public copies of the template write it; the turns of GLM-4.5, from memory.
CHAT = chat("<|ROLE|>\n", PICTURE, "", answer="<|assistant|>\n", opening="[gMASK]<sop>")
IDS = (257, 258, 220, 262, 264, 263, 198, 86, 71, 72, 66, 71, 220, 66, 84, 79, 30)
GOLDEN = (
    prompted(f"[gMASK]<sop>{VICUNA} {PICTURE}\nthe cup.", form="bare"),
    prompted(f"[gMASK]<sop> {PICTURE}\nwhich cup?", "which cup?", form="bare", system="", ids=IDS),
    prompted(f"[gMASK]<sop><|user|>\n{PICTURE}the cup.<|assistant|>\n"),
    prompted(
        f"[gMASK]<sop><|system|>\nSee.<|user|>\n{PICTURE}Find the cup. now<|assistant|>\n",
        template="Find {expression} now",
        system="See.",
        query_row="prompt_last",
        rows=(NEWLINE,),
    ),
)
KINDS = ["linear_attention", "indexed_attention", "indexed_attention", "linear_attention"]


def tiny_glm5(folder, tokens=(1, 48), topk=64):
    """28 pixels per token; a row sees up to `topk` tokens, and two layers share a selection."""
    tokenizer = vocabulary("pad=eos=<|endoftext|>", [*TURNS, *NAMED])
    config = hf.Glm5NextConfig(
        # As few as 4 heads score groups of tokens zero, and equal scores may fall either way.
        text_config=text_part(
            tokenizer,
            """num_key_value_heads=4 mlp_layer_types=["dense","sparse","dense","sparse"]
            indexer_types=["full","full","shared","full"] moe_intermediate_size=32
            n_routed_experts=4 num_experts_per_tok=2 kv_lora_rank=16 q_lora_rank=32
            qk_nope_head_dim=16 v_head_dim=16 index_kpool=4 index_head_dim=16 index_n_heads=32
            linear_head_dim=16 linear_num_heads=4""",
            layer_types=list(KINDS),
            index_topk=topk,
        ),
        vision_config=fields("""depth=2 hidden_size=32 intermediate_size=64 num_heads=4
                out_hidden_size=64 projection_intermediate_size=64"""),
        **{f"{to}_token_id": tokenizer.convert_tokens_to_ids(name) for name, to in NAMED.items()},
    )
    images = hf.Glm5NextImageProcessorPil(min_image_tokens=tokens[0], max_image_tokens=tokens[1])
    processor = processor_of(hf.Glm5NextProcessor, images, tokenizer, chat_template=CHAT)
    kind, scaled = hf.Glm5NextForConditionalGeneration, (400.0, "q_b_proj.weight")
    return save(kind, config, processor, folder, scaled=scaled)


TestGlm5Next = contract(
    Glm5NextAdapter, GOLDEN, tiny_glm5, foreign=("image_processor.merge_size", 1, (25, 9))
)
# The numbers of tokens that the family's image processor allows.
opened = loaded(Glm5NextAdapter, tiny_glm5, tokens=(16, 8000))


def test_a_photograph_keeps_its_pixels_and_is_filled_up(opened):
    assert opened.model.statements == ("A picture becomes up to 8000 tokens of 28 x 28 pixels.",)
    shows(opened, (640, 480), (18, 23), (0.0, 0.0, 644.0, 504.0))


def test_small_pictures_grow_and_large_ones_shrink(opened):
    (small,), (large,) = views(opened, (40, 30)), views(opened, (2900, 2800))
    assert 16 <= small.shape[0] * small.shape[1] < 32
    # One pixel of the original is several of the canvas.
    assert small.to_original.scale[0] < 14
    assert 7800 < large.shape[0] * large.shape[1] <= 8000
    assert large.to_original.scale[0] > 28


def test_heads_are_those_of_indexed_layers_and_see_what_was_selected(opened):
    assert {head.layer for head in opened.model.all_heads} == {1, 2}
    inputs = ask(opened, (640, 480))
    rows = opened.rows(inputs)[0][:, 0]
    # 16 groups of 4 tokens, and up to 3 tokens behind the last whole group.
    assert ((rows > 0).sum(-1) <= 64 + 3).all()
    assert ((rows[0] > 0) == (rows[-1] > 0)).float().mean().item() > 0.99
