"""dots3 note passes the public contract, with fewer keys per query than there are tokens."""

import transformers as hf
from building import chat, fields, save, text_part, vision_part, vocabulary
from families import VICUNA, ask, contract, opens, prompted

from vg_engine.model_adapters.families.dots3_note import Dots3NoteAdapter
from vg_engine.model_adapters.shared.capture import OVER_FUSED, OVER_PLAIN
from vg_engine.testing.tiny_qwen import qwen_processor

TURNS = ("<|system|>", "<|endofsystem|>", "<|user|>", "<|endofuser|>", "<|assistant|>")
PARTS = ("<|img|>", "<|endofimg|>", "<|imgpad|>", "<|video_pad|>", "<|audio_comp_pad|>")
PICTURE = "<|img|><|imgpad|><|endofimg|>"
# The picture's tokens were looked up; the turns are from memory of dots.ocr.
CHAT = chat("<|ROLE|>", PICTURE, "<|endofROLE|>", answer="<|assistant|>")
KEYS, WINDOW = 40, 48


def tiny_dots3_note(folder):
    special = [*TURNS, *PARTS]
    tokenizer = vocabulary("pad=eos=<|endoftext|>", special)
    image, video, audio = tokenizer.convert_tokens_to_ids(PARTS[2:])
    latent = {"q_lora_rank": 32, "kv_lora_rank": 32, "qk_nope_head_dim": 8, "v_head_dim": 16}
    config = hf.Dots3NoteConfig(
        text_config={
            **text_part(tokenizer),
            "num_key_value_heads": 4,
            **latent,
            "qk_rope_head_dim": 8,
            "head_dim": 16,
            **{f"swa_{name}": size for name, size in latent.items()},
            **fields("swa_head_dim=16 swa_num_attention_heads=2 swa_num_key_value_heads=2"),
            "sliding_window_size": WINDOW,
            "index_topk": KEYS,
            "index_head_dim": 8,
            # Many heads: scores of exactly zero would tie, and padding would break the tie anew.
            **fields("""index_n_heads=32 n_routed_experts=4 num_experts_per_tok=2
                moe_intermediate_size=32 moe_shared_expert_intermediate_size=32"""),
        },
        vision_config=vision_part("""pyramid_num_routed=[-1,4] moe_intermediate_size=32
            adapter_in_dim=32 adapter_out_dim=64"""),
        audio_config=fields("""hidden_size=16 intermediate_size=16 num_hidden_layers=1
                num_attention_heads=2 downsample_hidden_size=8 adapter_input_size=16
                adapter_out_dim=64"""),
        image_token_id=image,
        video_token_id=video,
        audio_token_id=audio,
    )
    processor = qwen_processor(hf.Qwen2VLProcessor, tokenizer, chat=CHAT, temporal_patch_size=1)
    kind, scaled = hf.Dots3NoteForConditionalGeneration, (50.0, "q_b_proj.weight")
    return save(kind, config, processor, folder, scaled=scaled)


TestDots3Note = contract(
    Dots3NoteAdapter,
    (
        prompted(f"{VICUNA} {PICTURE}\nthe cup.", form="bare"),
        prompted(
            f"<|system|>See.<|endofsystem|><|user|>{PICTURE}the cup.<|endofuser|><|assistant|>",
            system="See.",
        ),
    ),
    tiny_dots3_note,
)


def test_a_row_has_as_many_keys_as_the_indexer_chose(tmp_path):
    opened = opens(Dots3NoteAdapter, tiny_dots3_note(tmp_path / "tiny"))
    inputs = ask(opened, (120, 90))
    rows = opened.rows(inputs)[0]
    assert sorted({head.layer for head in opened.model.all_heads}) == [0, 1]
    assert rows.shape[-1] > 2 * KEYS
    assert ((rows > 0).sum(dim=-1) <= KEYS).all()


def test_the_choice_holds_without_sdpa(tmp_path, monkeypatch):
    """The same rows over eager attention, whose mask is added."""
    folder = tiny_dots3_note(tmp_path / "tiny")
    found = []
    for supported, over in ((True, OVER_FUSED), (False, OVER_PLAIN)):
        monkeypatch.setattr(hf.Dots3NotePreTrainedModel, "_supports_sdpa", supported)
        opened = opens(Dots3NoteAdapter, folder)
        assert opened.model.module.get_decoder().config._attn_implementation == over
        found.append(opened.rows(ask(opened, (120, 90)))[0])
        opened.model.close()
    assert (found[0] - found[1]).abs().max() < 1e-5
