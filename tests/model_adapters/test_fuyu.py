"""Fuyu passes the public contract: patches in the sequence, rows ended by a newline token."""

import pytest
import transformers as hf
from building import chat, fields, save, square, text_part, vocabulary
from families import contract, opens, refuses, shows, views
from tokenizers import normalizers

from vg_engine.core.contract.prompt import Prompt
from vg_engine.model_adapters.families.fuyu import FuyuAdapter
from vg_engine.testing import Golden

# The family ships no template: this one is for the contract alone.
CHAT = chat("", "|SPEAKER|", "")
# A picture of 64 x 64 pixels is five rows; the text behind it begins with a blank of its own.
ROWS, IDS = "|SPEAKER||NEWLINE|" * 5 + "<s>", (263, 271) * 5 + (273, 220)
CUP, IT = (83, 71, 68, 220, 66, 84, 79, 13, 278), (72, 83, 13, 278)
ALL = Prompt("chat", query_row="expression_all")
GOLDEN = (
    Golden("the cup", Prompt(), f"{ROWS}the cup.<0x04>", (*IDS, *CUP), (13,)),
    Golden("it?", ALL, f"{ROWS}it?<0x04>", (*IDS, 72, 83, 30, 278), (220, 72, 83, 30)),
    Golden("it", Prompt(query_row="prompt_last"), f"{ROWS}it.<0x04>", (*IDS, *IT), (278,)),
)


def tiny_fuyu(folder, *, widest=196, highest=112, patch=14):
    """A tiny checkpoint; sizes in pixels."""
    named = ("|SPEAKER|", "|NEWLINE|", "<s>", "<0x04>")
    # Its control words are pieces of the vocabulary, and a blank goes in front of every text.
    merges = [(name[:end], name[end]) for name in named for end in range(1, len(name))]
    tokenizer = vocabulary("|ENDOFTEXT|", merges=merges)
    tokenizer.backend_tokenizer.normalizer = normalizers.Prepend(" ")
    tokenizer.chat_template = CHAT
    size = {"height": highest, "width": widest}
    images = hf.FuyuImageProcessorPil(size=size, patch_size=square(patch))
    processor = hf.FuyuProcessor(images, tokenizer)
    ids = tokenizer.convert_tokens_to_ids
    text = text_part(tokenizer, "model_type=persimmon qk_layernorm=true")
    del text["num_key_value_heads"]
    text |= {"bos_token_id": ids("<s>"), "eos_token_id": ids("|ENDOFTEXT|")}
    config = hf.FuyuConfig(patch_size=patch, image_token_id=ids("|SPEAKER|"), text_config=text)
    kind, scaled = hf.FuyuForCausalLM, (2.0, "q_layernorm.weight", "k_layernorm.weight")
    return save(kind, config, processor, folder, scaled=scaled)


# The processor pads on the left, whatever it is asked.
TestFuyu = contract(FuyuAdapter, GOLDEN, tiny_fuyu, padding=({},))


def test_a_photograph_is_filled_up_to_whole_patches(tmp_path):
    folder = tiny_fuyu(tmp_path / "tiny", widest=1920, highest=1080, patch=30)
    opened = opens(FuyuAdapter, folder)
    view = shows(opened, (640, 480), (16, 22), (0.0, 0.0, 660.0, 480.0))
    # A newline token stands behind each row.
    assert view.positions[:2, 0].tolist() == [0, 23]
    assert views(opened, (4000, 3000))[0].extent == pytest.approx((0.0, 0.0, 4000.0, 3000.0))
    size = square(300)
    refuses(opened, "image_processor.size", size, (80, 352), (640, 480))


@pytest.mark.parametrize(
    "images",
    [
        {"target_height": 1080, "target_width": 1920},
        fields("""do_normalize=true do_pad=true do_rescale=true do_resize=true
                image_mean=0.5 image_std=0.5 patch_size={"height":30,"width":30} resample=2
                rescale_factor=0.00392156862745098 size={"height":1080,"width":1920}"""),
    ],
)
def test_published_files_give_the_same_rows(tmp_path, published, change_of_rows, images):
    """adept/fuyu-8b: its first files (seen on a copy) state the text part's settings by the side
    of the others, and the picture's size in other words; later ones give numbers for lists."""

    def config(stated):
        text = stated.pop("text_config")
        rope = text.pop("rope_parameters")
        del text["model_type"]
        stated |= text | {"rope_scaling": None, "rope_theta": rope["rope_theta"]}

    def rewrite(folder):
        more = fields("""image_processor_type=FuyuImageProcessor processor_class=FuyuProcessor
            padding_mode=constant padding_value=1.0""")
        published(folder, {**more, **images}, config=config)
        (folder / "chat_template.json").unlink()

    folder = tiny_fuyu(tmp_path / "m", widest=1920, highest=1080, patch=30)
    assert change_of_rows(FuyuAdapter, folder, rewrite) < 1e-6
