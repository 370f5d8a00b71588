"""Shared by the tests of conversions: the command, folders changed by hand, what was converted."""

import json
import re

import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from transformers import LlavaProcessor
from transformers.models.llava.image_processing_pil_llava import LlavaImageProcessorPil
from typer.testing import CliRunner

from vg_engine.cli.main import app
from vg_engine.core.contract.inputs import Expression
from vg_engine.core.contract.prompt import Prompt
from vg_engine.testing import noise, open_adapter


def call(*arguments):
    """`vg-engine convert`, which succeeds."""
    done = CliRunner().invoke(app, ["convert", *map(str, arguments)])
    assert done.exit_code == 0, done.output
    return done


def refused(words, source, new, *arguments):
    """`vg-engine convert` says in one line why it does not, and leaves nothing behind."""
    done = CliRunner().invoke(app, ["convert", *map(str, (source, new, *arguments))])
    assert done.exit_code == 2, done.output
    (line,) = done.stderr.splitlines()
    assert re.search(words, line), line
    assert not new.exists()
    assert not list(new.parent.glob(f".{new.name}.*"))


def grounded(folder):
    """`vg-engine run` on a picture with what was converted."""
    photo = folder.parent / "photo.png"
    Image.fromarray(noise((90, 60)).pixels).save(photo)
    asked = ["run", "--model", str(folder), "--image", str(photo), "--text", "a", "--json"]
    done = CliRunner().invoke(app, asked)
    assert done.exit_code == 0, done.output
    assert len(json.loads(done.stdout)["boxes"][0]) == 4
    return done


def report_of(folder):
    return json.loads((folder / "vg_engine_conversion.json").read_text())


def logits(model, places, rows):
    """Of a prompt with a picture of 56 pixels at `places`, for the first `rows` tokens."""
    torch.manual_seed(1)
    ids = torch.tensor([[257, 72, 101, *places, 10, 70, 33, 46]])
    with torch.no_grad():
        answer = model(input_ids=ids, pixel_values=torch.randn(1, 3, 56, 56))
    return answer.logits[..., :rows]


def loaded(model_class, folder):
    """The model of a folder, which holds each of its tensors and no other."""
    model, info = model_class.from_pretrained(folder, output_loading_info=True)
    assert not any(info.values())
    return model.eval()


def saved_again(model_class, folder, to):
    """The model of a folder, and what it is saved and loaded again: the same, to the bit."""
    one = loaded(model_class, folder)
    one.save_pretrained(to)
    again = loaded(model_class, to)
    for (name, tensor), other in zip(
        one.state_dict().items(), again.state_dict().values(), strict=True
    ):
        assert torch.equal(tensor, other), name
    return one, again


def restate(folder, **description):
    """Change entries of config.json."""
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | description))


def reweigh(folder, gone=None, more=None):
    """Leave out the weights whose names hold `gone`, and add others."""
    path = folder / "model.safetensors"
    kept = {k: v for k, v in load_file(path).items() if gone is None or gone not in k}
    save_file(kept | (more or {}), path)


def grounded_in_both_forms(adapter, folder):
    """What was converted sees pictures of 56 pixels; returns the adapter and its chat prompt."""
    opened = open_adapter(adapter(), str(folder))
    for form in ("bare", "chat"):
        inputs = opened.prepare([noise((90, 60))], [Expression(0, "it")], Prompt(form))
        (view,) = opened.views(inputs)[0]
        assert view.shape == (4, 4)
        assert opened.rows(inputs)[0].isfinite().all()
    return opened, inputs


def llava_processor(tokenizer, image_size, chat):
    """A processor that pads pictures to squares, with patches of 14 pixels."""
    images = LlavaImageProcessorPil(
        do_pad=True,
        size={"shortest_edge": image_size},
        crop_size={"height": image_size, "width": image_size},
    )
    return LlavaProcessor(
        image_processor=images,
        tokenizer=tokenizer,
        patch_size=14,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
        chat_template=chat,
    )
