"""Step 3.7 passes the public contract: windows, strided convolutions, layers with more heads."""

import pytest
import transformers as hf
from building import chat, even_out, fields, save, square, text_part, vocabulary
from families import chatml, contract, opens, prompted, views

from vg_engine.model_adapters.families import step3p7
from vg_engine.model_adapters.families.step3p7 import Step3p7Adapter
from vg_engine.testing import paint

SHAPES = ((120, 120), (75, 40), (50, 150), (60, 48), (150, 115))
MARKS = ("<im_patch>", "<im_start>", "<im_end>", "<patch_start>", "<patch_end>", "<patch_newline>")
KINDS = ["full_attention", "sliding_attention", "sliding_attention", "full_attention"]
PICTURE = "<im_start><im_patch><im_end>"
# The turns are Qwen's; from memory.
CHAT = chat("<|im_start|>ROLE\n", "<im_patch>", "<|im_end|>\n", answer="<|im_start|>assistant\n")
GOLDEN = (
    prompted(f"Look. {PICTURE}\nthe cup.", form="bare", system="Look."),
    prompted(chatml(f"{PICTURE}which cup?", "See."), "which cup?", system="See."),
)


def tiny(folder, *, side=64, window=48, patch=4, most=120):
    """A tiny Step 3.7; 728 and 504 pixels and patches of 14 are the real numbers."""
    named = {token.strip("<|>"): token for token in ("<|im_start|>", "<im_patch>")}
    named |= {f"mark{i}": token for i, token in enumerate(MARKS[1:])}
    special = "pad=<|endoftext|> <|im_start|> eos=<|im_end|>"
    tokenizer = vocabulary(special, MARKS, extra_special_tokens=named)
    sizes = {"patch_size": window, "vision_patch_size": patch, "max_image_size": most}
    images = hf.Step3p7ImageProcessor(size=square(side), **sizes)
    processor = hf.Step3p7Processor(images, tokenizer, chat_template=CHAT)
    config = hf.Step3p7Config(
        vision_config={
            **fields("""hidden_size=32 num_hidden_layers=2 num_attention_heads=4 mlp_ratio=2.0
                layer_scale_init_value=1.0"""),
            "image_size": side,
            "patch_size": patch,
        },
        text_config=text_part(
            tokenizer,
            """head_dim=16 sliding_window=24 num_sliding_attention_heads=8
                mlp_layer_types=["dense","dense","sparse","sparse"] n_routed_experts=4
                num_experts_per_tok=2 moe_intermediate_size=32 share_expert_dim=32""",
            layers=len(KINDS),
            layer_types=list(KINDS),
        ),
        image_token_id=tokenizer.convert_tokens_to_ids("<im_patch>"),
    )
    return save(hf.Step3p7ForConditionalGeneration, config, processor, folder, norms=2.2)


FOREIGN = ("image_processor.downsampler_stride", 2, (64, 16))


class TestStep3p7(contract(Step3p7Adapter, GOLDEN, tiny, shapes=SHAPES, foreign=FOREIGN)):
    # The left and upper edge of a window's first cells lie on the window before.
    strips = False

    def unmix(self, opened):
        super().unmix(opened)
        even_out(self.vision_tower(opened.model.module))

    def test_only_layers_with_as_many_heads_are_read(self, opened):
        assert {head.layer for head in opened.model.all_heads} == {0, 3}
        assert opened.model.heads == 4


@pytest.mark.parametrize(("early", "right"), [(0.375, True), (0.2, False), (0.0, False)])
def test_an_even_division_of_the_picture_would_be_wrong(tmp_path, monkeypatch, early, right):
    monkeypatch.setattr(step3p7, "_EARLY", early)
    opened = opens(Step3p7Adapter, tiny(tmp_path / "m"))
    tower = opened.model.module.base_model.vision_model
    paint.unmix(tower)
    even_out(tower)
    report = paint.probe(opened, paint.embeddings, [(64, 64), (62, 50)])
    opened.model.close()
    assert (not report.wrong) == right


def test_a_photograph_is_seen_whole_and_a_large_one_in_windows(tmp_path):
    folder = tiny(tmp_path / "728", side=728, window=504, patch=14, most=3024)
    opened = opens(Step3p7Adapter, folder)
    # 3/8 of a cell early.
    (whole,) = views(opened, (640, 480))
    assert whole.shape == (13, 13)
    assert whole.extent[:2] == pytest.approx((-640 * 0.375 / 13, -480 * 0.375 / 13))
    found = views(opened, (1200, 800))
    assert [view.shape for view in found] == 6 * [(9, 9)] + [(13, 13)]
    assert found[1].name == "tile 0,1"
