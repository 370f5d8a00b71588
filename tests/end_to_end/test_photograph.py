"""A photograph through `vg-engine run` with random checkpoints of real geometry, from folders.

Hidden sizes are small and weights random: what is shown is the path that real weights take, not
that the answer is right.
"""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from skimage import data
from typer.testing import CliRunner

from vg_engine.cli.main import app
from vg_engine.testing.tiny import tiny_internvl, tiny_llava


@pytest.fixture(scope="module")
def photograph(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cup of coffee, 600 x 400 pixels (CC0; scikit-image ships it)."""
    path = tmp_path_factory.mktemp("photograph") / "coffee.png"
    Image.fromarray(data.coffee()).save(path)
    return path


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("checkpoints")
    tiny_llava(folder / "llava", image_size=336, patch_size=14)
    tiny_internvl(folder / "internvl", image_size=448, patch_size=14)
    return folder


@pytest.mark.parametrize(
    ("name", "arguments", "said"),
    [
        ("llava", [], "cut to a square"),
        ("llava", ["--geometry", "pad"], "padded to a square"),
        ("llava", ["--adapter", "llava", "--heads", "L2H1,L3H0"], "cut to a square"),
        ("internvl", ["--adapter", "internvl"], "tiles"),
        ("internvl", ["--heads", "L2H1,L3H0", "--region", "half_level"], "tiles"),
    ],
)
def test_a_photograph_goes_all_the_way(
    photograph: Path, checkpoints: Path, tmp_path: Path, name: str, arguments: list[str], said: str
) -> None:
    texts = ["the cup of coffee", "the spoon on the left"]
    asked = ["--image", str(photograph), "--text", texts[0], "--text", texts[1], "--json", "--mask"]
    where = ["--model", str(checkpoints / name), "--out", str(tmp_path)]
    done = CliRunner().invoke(app, ["run", *where, *asked, *arguments])
    assert done.exit_code == 0, done.output
    assert said in done.stderr
    answers = [json.loads(line) for line in done.stdout.splitlines()]
    assert [answer["expression"] for answer in answers] == texts
    for answer in answers:
        ((left, top, right, bottom),) = answer["boxes"]
        assert 0 <= left < right <= 600
        assert 0 <= top < bottom <= 400
        assert 0 < answer["score"] <= 1
        with Image.open(tmp_path / answer["overlay"]) as overlay:
            assert min(overlay.size) >= 400
            assert len(np.unique(np.asarray(overlay))) > 50
    assert answers[0]["boxes"] != answers[1]["boxes"] or answers[0]["score"] != answers[1]["score"]
