"""PaliGemma passes the public contract, with either of its decoders."""

from functools import partial

import building
import pytest
import torch
import transformers as hf
from building import chat, fields, save, siglip, square, text_part, vocabulary
from families import ARRAYS, RENAMED, ask, contract, loaded, opens, prompted, shows

from vg_engine.core.contract.prompt import Prompt
from vg_engine.core.errors import InputError
from vg_engine.model_adapters.families.paligemma import PaliGemmaAdapter

pytestmark = ARRAYS
SIDE, PATCH = 112, 14
HEAD = "language_model.lm_head.weight"
# The family ships no template: this one is for the contract alone.
CHAT = chat("", "<image>", "")
GOLDEN = (
    prompted("<image><bos>the cup.\n", form="bare"),
    prompted("<image><bos>See: which cup?\n", "which cup?", form="bare", system="See: "),
    prompted("<image><bos>detect the cup.\n", template="detect {expression}"),
)


def tiny_paligemma(folder, decoder: str, *, side=SIDE, layers=4):
    tokenizer = vocabulary("pad=<pad> eos=<eos> bos=<bos>", {"image_token": "<image>"})
    images = hf.SiglipImageProcessorPil(size=square(side))
    images.image_seq_length = (side // PATCH) ** 2
    # The processor adds 1,152 tokens for places and masks.
    processor = hf.PaliGemmaProcessor(images, tokenizer, chat_template=CHAT)
    sizes = text_part(tokenizer, "head_dim=16", layers=layers)
    if decoder == "gemma":
        text = hf.GemmaConfig(**sizes)
    else:  # Every other layer sees a window shorter than the picture.
        text = hf.Gemma2Config(**sizes, sliding_window=24, query_pre_attn_scalar=16)
    config = hf.PaliGemmaConfig(
        vision_config=siglip(side, PATCH).to_dict(),
        text_config=text.to_dict(),
        image_token_index=tokenizer.convert_tokens_to_ids("<image>"),
        projection_dim=64,
        hidden_size=64,
        vocab_size=len(tokenizer),
    )
    sharpness = 12.0 if decoder == "gemma" else 10.0
    whole = hf.PaliGemmaForConditionalGeneration
    return save(whole, config, processor, folder, sharpness=sharpness)


FOREIGN = ("image_processor.size", square(448), (1024, 64))
TestPaliGemma = contract(
    PaliGemmaAdapter, GOLDEN, partial(tiny_paligemma, decoder="gemma"), foreign=FOREIGN
)


class TestPaliGemma2(contract(PaliGemmaAdapter, GOLDEN, partial(tiny_paligemma, decoder="gemma2"))):
    def load_plain(self, folder, attention: str):
        # Gemma 2 has no sdpa: as transformers loads it when nothing is asked for.
        parts = {"": attention, "vision_config": attention, "text_config": "eager"}
        made = hf.AutoModelForImageTextToText.from_pretrained(
            folder, attn_implementation=parts, dtype=torch.float32
        )
        return made.eval()


real_size = loaded(PaliGemmaAdapter, tiny_paligemma, "gemma", side=224, layers=2)


def test_a_photograph_is_squashed_to_16_by_16_cells(real_size):
    assert shows(real_size, (640, 480), (16, 16)).positions[0, 0] == 0


def test_the_prompt_is_seen_in_both_directions(real_size):
    """The first token of the expression sees the newline that ends the prompt."""
    prompt = Prompt(query_row="expression_all")
    inputs = ask(real_size, (64, 64), "the cup", prompt)
    assert "labels" not in inputs.tensors
    assert inputs.tensors["position_ids"][0, :3].tolist() == [1, 2, 3]
    rows = real_size.rows(inputs)[0]
    assert rows[:, 0, -1].max() > 1e-3


def test_published_files_give_the_same_rows(tmp_path, published, change_of_rows):
    """google/paligemma-3b-mix-224: what transformers' converter writes, and older versions' names.

    That converter's files say: no template, no processor_config.json, the head written out.
    """

    images = fields("""do_convert_rgb=null do_normalize=true do_rescale=true do_resize=true
        image_mean=[0.5,0.5,0.5] image_processor_type=SiglipImageProcessor image_seq_length=256
        image_std=[0.5,0.5,0.5] processor_class=PaliGemmaProcessor resample=3
        rescale_factor=0.00392156862745098 size={"height":224,"width":224}""")

    def head(weights):
        weights[HEAD] = weights["language_model.model.embed_tokens.weight"].clone()

    def rewrite(folder):
        published(folder, images, renamed=RENAMED, add=head)
        (folder / "chat_template.json").unlink()

    folder = tiny_paligemma(tmp_path / "m", "gemma", side=224, layers=1)
    assert change_of_rows(PaliGemmaAdapter, folder, rewrite) < 1e-6
    with pytest.raises(InputError, match="does not have a chat template"):
        ask(opens(PaliGemmaAdapter, folder), prompt=Prompt("chat"))


def test_the_opening_token_stands_once_and_the_row_is_found(tmp_path, monkeypatch, gemma_tokenizer):
    """Gemma's tokenizer opens every text by itself; the processor tells it not to."""
    monkeypatch.setattr(building, "byte_tokenizer", gemma_tokenizer)
    opened = opens(PaliGemmaAdapter, tiny_paligemma(tmp_path / "m", "gemma"))
    inputs = ask(opened, text="see the cup")
    ids = inputs.tensors["input_ids"][0]
    tokens = opened.model.processor.tokenizer.convert_ids_to_tokens(ids)
    assert tokens[64:] == ["<bos>", "s", "e", "e", "\u2581the", "\u2581cup", ".", "<0x0A>"]
    assert inputs.queries[0].rows == (len(ids) - 2,)
