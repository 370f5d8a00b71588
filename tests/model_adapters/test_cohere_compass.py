"""Cohere's Compass passes the public contract: features of several tower layers, windows."""

import transformers as hf
from building import chat, fields, save, text_part, vocabulary
from families import FIND, VICUNA, contract, grids, prompted

from vg_engine.model_adapters.families.cohere_compass import CohereCompassAdapter
from vg_engine.testing.tiny_qwen import qwen_processor

TURN, END = "<|START_OF_TURN_TOKEN|>", "<|END_OF_TURN_TOKEN|>"
ROLES = {"system": "SYSTEM", "user": "USER", "assistant": "CHATBOT"}
NAMED = fields("""vision_start=<|VISION_START|> vision_end=<|VISION_END|> image=<|IMAGE_PAD|>
        video=<|VIDEO_PAD|>""")
PICTURE = "<|VISION_START|><|IMAGE_PAD|><|VISION_END|>"
# The turns of Cohere's other templates, from memory: this family's could not be looked up.
ROLE = "{% if message['role'] == 'user' %}<|USER_TOKEN|>{% else %}<|SYSTEM_TOKEN|>{% endif %}"
BOT, OPENED = TURN + "<|CHATBOT_TOKEN|>", "{{ bos_token }}"
CHAT = chat(TURN + ROLE, PICTURE, END, answer=BOT, opening=OPENED)
OPEN = f"<BOS_TOKEN>{TURN}<|USER_TOKEN|>{PICTURE}"
ANSWER = f"{END}{TURN}<|CHATBOT_TOKEN|>"
GOLDEN = (
    prompted(f"{VICUNA} {PICTURE}\nthe cup.", form="bare"),
    prompted(f"{PICTURE}\nwhich cup?", "which cup?", form="bare", system=""),
    prompted(
        f"{OPEN}the cup.{ANSWER}",
        ids=(258, 259, 262, 264, 266, 265, 83, 71, 68, 220, 66, 84, 79, 13, 260, 259, 263),
    ),
    prompted(
        f"<BOS_TOKEN>{TURN}<|SYSTEM_TOKEN|>See.{END}{TURN}<|USER_TOKEN|>{PICTURE}"
        f"Find the cup.\nNow{ANSWER}",
        **FIND,
    ),
)


def tiny_compass(folder, tokens=(1, 48)):
    """32 pixels per token; windows of 24 tokens, and full layers without positions."""
    roles = [f"<|{role}_TOKEN|>" for role in ROLES.values()]
    special = f"pad=<PAD> bos=<BOS_TOKEN> {TURN} eos={END}"
    named = [*roles, *NAMED.values()]
    more = {"merges": ((".", "Ċ"),), "extra_special_tokens": [TURN, *named]}
    tokenizer = vocabulary(special, named, **more)
    rope = {"rope_type": "default", "rope_theta": 10000.0, "mrope_section": [4, 2, 2]}
    config = hf.CohereCompassConfig(
        text_config=text_part(
            tokenizer,
            "sliding_window=24",
            layer_types=["sliding_attention", "full_attention"] * 2,
            rope_parameters={"sliding_attention": rope, "full_attention": None},
        ),
        vision_config=fields("""depth=3 hidden_size=32 intermediate_size=64 num_heads=4
            out_hidden_size=64 num_position_embeddings=64 deepstack_visual_indexes=[0,1]"""),
        **{f"{n}_token_id": tokenizer.convert_tokens_to_ids(token) for n, token in NAMED.items()},
    )
    images = {"image_class": hf.CohereCompassImageProcessorPil, "patch_size": 16, "tokens": tokens}
    processor = qwen_processor(hf.CohereCompassProcessor, tokenizer, chat=CHAT, **images)
    return save(hf.CohereCompassForConditionalGeneration, config, processor, folder)


TestCohereCompass = contract(
    CohereCompassAdapter, GOLDEN, tiny_compass, foreign=("image_processor.merge_size", 1, (16, 4))
)
test_a_photograph_is_squashed_to_whole_tokens = grids(
    CohereCompassAdapter, tiny_compass, ((640, 470), (15, 20)), tokens=(4, 1024)
)
