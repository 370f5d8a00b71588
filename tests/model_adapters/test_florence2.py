"""Florence-2 passes the public contract with the heads of its encoder."""

import torch
import transformers as hf
from building import chat, fields, keep_own_pixels, reading, save, square, text_part, vocabulary
from families import contract, opens, shows
from tokenizers import processors

from vg_engine.core.contract.prompt import Prompt
from vg_engine.model_adapters.families.florence2 import Florence2Adapter
from vg_engine.testing import Golden, paint

# The family ships no template: this one is for the contract alone.
CHAT = chat("", "<image>", "")
TASK = "Locate {expression} in the image with mask"
IDS = (259, 256, 83, 71, 68, 220, 66, 84, 79, 13, 258)
ALL = Prompt("chat", template=TASK, query_row="expression_all")
GOLDEN = (
    Golden("the cup", Prompt(), "<image><s>the cup.</s>", IDS, rows=(13,)),
    Golden("which cup?", Prompt(system="Look. "), "<image><s>Look. which cup?</s>", rows=(30,)),
    Golden("the cup", ALL, "<image><s>Locate the cup. in the image with mask</s>", rows=IDS[2:9]),
    Golden("it", Prompt(query_row="prompt_last"), "<image><s>it.</s>", rows=(258,)),
)


def tiny_florence2(folder, *, side=192, layers=4):
    """A tiny checkpoint: four stages make cells of 32 x 32 pixels."""
    named = {"image_token": "<image>"}
    tokenizer = vocabulary("bos=<s> pad=<pad> eos=</s>", named, padding_side="right")
    # BART's tokenizer would open and close the text once more, and is told not to.
    tokenizer.backend_tokenizer.post_processor = processors.RobertaProcessing(
        ("</s>", tokenizer.eos_token_id), ("<s>", tokenizer.bos_token_id)
    )
    tokenizer.chat_template = CHAT
    images = hf.CLIPImageProcessorPil(size=square(side), do_center_crop=False)
    images.image_seq_length = 1 + (side // 32) ** 2
    processor = hf.Florence2Processor(images, tokenizer)
    sizes = text_part(tokenizer)
    config = hf.Florence2Config(
        text_config=hf.BartConfig(
            **{name: sizes[name] for name in sizes if name.endswith(("_id", "vocab_size"))},
            d_model=64,
            encoder_layers=layers,
            **fields("""decoder_layers=1 encoder_attention_heads=4 decoder_attention_heads=4
                encoder_ffn_dim=128 decoder_ffn_dim=128 max_position_embeddings=4096"""),
            decoder_start_token_id=tokenizer.eos_token_id,
        ).to_dict(),
        vision_config=fields("""depths=[1,1,1,1] embed_dim=[16,16,32,32] num_heads=[2,2,2,2]
                num_groups=[2,2,2,2] window_size=6 projection_dim=64 initializer_range=0.2"""),
        image_token_id=tokenizer.convert_tokens_to_ids("<image>"),
    )
    return save(hf.Florence2ForConditionalGeneration, config, processor, folder)


FOREIGN = ("num_image_tokens", 576, (37, 576))
# Positions are learned: there is one side only that padding can be on.
MEMBERS = {"padding": ({},), "load_plain": reading(hf.Florence2ForConditionalGeneration)}


class TestFlorence2(contract(Florence2Adapter, GOLDEN, tiny_florence2, foreign=FOREIGN, **MEMBERS)):
    def unmix(self, opened):
        tower = self.vision_tower(opened.model.module)
        paint.unmix(tower)
        for part in tower.modules():
            if isinstance(part, torch.nn.Conv2d):
                keep_own_pixels(part, fresh=False)


def test_a_photograph_is_squashed_to_24_by_24_cells(tmp_path):
    opened = opens(Florence2Adapter, tiny_florence2(tmp_path / "768", side=768, layers=2))
    view = shows(opened, (640, 480), (24, 24))
    # The first of 577 tokens is the average.
    assert int(view.positions[0, 0]) == 1
