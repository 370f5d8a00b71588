"""Llama 4 passes the public contract: padded tiles, chunked layers, normed queries and keys."""

import transformers as hf
from building import fields, save, square, text_part, vocabulary
from families import contract, opens, prompted, tiled

from vg_engine.model_adapters.families.llama4 import Llama4Adapter

SHAPES = ((120, 120), (230, 110), (90, 210), (310, 70), (40, 60), (300, 220))
SPECIAL = (
    *("<|header_start|>", "<|header_end|>", "<|image|>", "<|image_start|>", "<|image_end|>"),
    *("<|patch|>", "<|tile_x_separator|>", "<|tile_y_separator|>"),
)
ROW = "<|patch|><|tile_x_separator|><|patch|><|tile_y_separator|>"
PICTURE = f"<|image_start|>{ROW}{ROW}<|image|><|patch|><|image_end|>"
GOLDEN = (
    prompted(f"Look. {PICTURE}\nthe cup.", form="bare", system="Look."),
    # The template is transformers' own, in the processor's module.
    prompted(
        "<|begin_of_text|><|header_start|>system<|header_end|>\n\nSee.<|eot|>"
        f"<|header_start|>user<|header_end|>\n\n{PICTURE}which cup?<|eot|>"
        "<|header_start|>assistant<|header_end|>\n\n",
        "which cup?",
        system="See.",
    ),
)


def tiny(folder, *, side=56, patch=7, most=4, layers=4):
    """A tiny Llama 4; 336 pixels and patches of 14 make the real 12 x 12 cells of a tile."""
    special = "bos=<|begin_of_text|> eos=<|eot|> pad=<|finetune_right_pad|>"
    tokenizer = vocabulary(special, SPECIAL)
    processor = hf.Llama4Processor(
        hf.Llama4ImageProcessor(size=square(side), max_patches=most), tokenizer, patch_size=patch
    )
    config = hf.Llama4Config(
        vision_config={
            **fields("""hidden_size=32 intermediate_size=128 num_hidden_layers=2
                num_attention_heads=4 vision_output_dim=32 projector_input_dim=32
                projector_output_dim=32"""),
            "image_size": side,
            "patch_size": patch,
        },
        text_config=text_part(
            tokenizer,
            """intermediate_size_mlp=128 head_dim=16 num_local_experts=2
                interleave_moe_layer_step=2 attention_chunk_size=24""",
            layers=layers,
        ),
        image_token_index=tokenizer.convert_tokens_to_ids("<|patch|>"),
        boi_token_index=tokenizer.convert_tokens_to_ids("<|image_start|>"),
        eoi_token_index=tokenizer.convert_tokens_to_ids("<|image_end|>"),
    )
    # The layers without positions alone have queries and keys without norms.
    return save(hf.Llama4ForConditionalGeneration, config, processor, folder, sharpness=20.0)


TestLlama4 = contract(
    Llama4Adapter, GOLDEN, tiny, shapes=SHAPES, foreign=("patch_size", 28, (5, 80))
)


def test_a_photograph_lies_on_a_padded_canvas(tmp_path):
    folder = tiny(tmp_path / "m", side=336, patch=14, most=16, layers=1)
    # 640 x 480 fits into 672 x 672 as it is; a canvas of more tiles would enlarge nothing.
    known = {0: (0.0, 0.0, 336.0, 336.0), 3: (336.0, 336.0, 672.0, 672.0)}
    known[4] = (0.0, 0.0, 640.0, 480.0)
    opened = opens(Llama4Adapter, folder)
    tiled(opened, (640, 480), (2, 2), (12, 12), known, last=["thumbnail"])
