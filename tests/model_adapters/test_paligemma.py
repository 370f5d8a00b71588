"""PaliGemma passes the public contract, with either of its decoders."""

from typing import Any

import pytest
import torch
import transformers as hf
from building import TOWER, chat, fields, save, text_part, vocabulary
from families import ask, contract, opens, prompted

from vg_engine.core.contract.inputs import Expression
from vg_engine.core.contract.prompt import Prompt
from vg_engine.core.errors import InputError
from vg_engine.model_adapters.families.paligemma import PaliGemmaAdapter
from vg_engine.testing import noise

# transformers' own: its processor makes labels, which are dropped, in numpy's old way.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

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
    tokenizer = vocabulary(
        "pad=<pad> eos=<eos> bos=<bos> <image>", extra_special_tokens={"image_token": "<image>"}
    )
    images = hf.SiglipImageProcessorPil(size={"height": side, "width": side})
    images.image_seq_length = (side // PATCH) ** 2
    made: Any = hf.PaliGemmaProcessor
    # The processor adds 1,152 tokens for places and masks.
    processor = made(images, tokenizer, chat_template=CHAT)
    sizes = text_part(tokenizer, "head_dim=16", layers=layers)
    text = (
        hf.GemmaConfig(**sizes)
        if decoder == "gemma"
        # Every other layer sees a window shorter than the picture.
        else hf.Gemma2Config(**sizes, sliding_window=24, query_pre_attn_scalar=16)
    )
    config = hf.PaliGemmaConfig(
        vision_config=hf.SiglipVisionConfig(
            **TOWER, image_size=side, patch_size=PATCH, vision_use_head=False
        ).to_dict(),
        text_config=text.to_dict(),
        image_token_index=tokenizer.convert_tokens_to_ids("<image>"),
        projection_dim=64,
        hidden_size=64,
        vocab_size=len(tokenizer),
    )
    return save(
        hf.PaliGemmaForConditionalGeneration,
        config,
        processor,
        folder,
        sharpness=12.0 if decoder == "gemma" else 10.0,
    )


TestPaliGemma = contract(
    PaliGemmaAdapter,
    GOLDEN,
    lambda folder: tiny_paligemma(folder, "gemma"),
    foreign=("image_processor.size", {"height": 448, "width": 448}, (1024, 64)),
)


class TestPaliGemma2(
    contract(PaliGemmaAdapter, GOLDEN, lambda folder: tiny_paligemma(folder, "gemma2"))
):
    def load_plain(self, folder, attention: str):
        # Gemma 2 has no sdpa: as transformers loads it when nothing is asked for.
        parts = {"": attention, "vision_config": attention, "text_config": "eager"}
        auto_class: Any = hf.AutoModelForImageTextToText
        return auto_class.from_pretrained(
            folder, attn_implementation=parts, dtype=torch.float32
        ).eval()


@pytest.fixture(scope="module")
def real_size(tmp_path_factory):
    folder = tmp_path_factory.mktemp("paligemma") / "224"
    opened = opens(PaliGemmaAdapter, tiny_paligemma(folder, "gemma", side=224, layers=2))
    yield opened
    opened.model.close()


def test_a_photograph_is_squashed_to_16_by_16_cells(real_size):
    inputs = ask(real_size, (640, 480))
    ((view,),) = real_size.views(inputs)
    assert view.shape == (16, 16)
    assert view.positions[0, 0] == 0
    assert view.extent == pytest.approx((0.0, 0.0, 640.0, 480.0))


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

    def rewrite(folder):
        published(
            folder,
            fields("""do_convert_rgb=null do_normalize=true do_rescale=true
                    do_resize=true image_mean=[0.5,0.5,0.5]
                    image_processor_type=SiglipImageProcessor image_seq_length=256
                    image_std=[0.5,0.5,0.5] processor_class=PaliGemmaProcessor resample=3
                    rescale_factor=0.00392156862745098 size={"height":224,"width":224}"""),
            renamed=[(r"^vision_tower\.", "vision_tower.vision_model.")],
            add=lambda w: w.update({HEAD: w["language_model.model.embed_tokens.weight"].clone()}),
        )
        (folder / "chat_template.json").unlink()

    folder = tiny_paligemma(tmp_path / "m", "gemma", side=224, layers=1)
    assert change_of_rows(PaliGemmaAdapter, folder, rewrite) < 1e-6
    opened = opens(PaliGemmaAdapter, folder)
    with pytest.raises(InputError, match="does not have a chat template"):
        opened.prepare([noise((64, 64))], [Expression(0, "it")], Prompt("chat"))


def test_the_opening_token_stands_once_and_the_row_is_found(tmp_path, monkeypatch, gemma_tokenizer):
    """Gemma's tokenizer opens every text by itself; the processor tells it not to."""
    monkeypatch.setitem(globals(), "byte_tokenizer", gemma_tokenizer)
    opened = opens(PaliGemmaAdapter, tiny_paligemma(tmp_path / "m", "gemma"))
    inputs = ask(opened, text="see the cup")
    ids = inputs.tensors["input_ids"][0]
    tokens = opened.model.processor.tokenizer.convert_ids_to_tokens(ids)
    assert tokens[64:] == ["<bos>", "s", "e", "e", "\u2581the", "\u2581cup", ".", "<0x0A>"]
    assert inputs.queries[0].rows == (len(ids) - 2,)
