"""Shapes that stand in signatures are checked while tests run, in every room."""

import importlib
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import jaxtyping
import pytest
import torch

ROOT = Path(__file__).resolve().parents[2]
FOLDERS = {f"vg_engine.{room}": room for room in ("core", "plugins", "model_adapters", "registry")}
PACKAGES = {"vg_engine": "src/vg_engine"} | FOLDERS

PLANTED = """
from jaxtyping import Float
from torch import Tensor

def product(
    left: Float[Tensor, "rows inner"], right: Float[Tensor, "inner cols"]
) -> Float[Tensor, "rows cols"]:
    return left @ right

def wrong_answer(left: Float[Tensor, "rows cols"]) -> Float[Tensor, "cols rows"]:
    return left
"""


@pytest.fixture
def planted(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[ModuleType]:
    """A module of the room that the test names, imported the way any of ours is."""
    package = importlib.import_module(request.param)
    (tmp_path / "planted_shapes.py").write_text(PLANTED, encoding="utf-8")
    package.__path__.append(str(tmp_path))
    name = f"{request.param}.planted_shapes"
    try:
        importlib.invalidate_caches()
        yield importlib.import_module(name)
    finally:
        package.__path__.remove(str(tmp_path))
        sys.modules.pop(name, None)
        vars(package).pop("planted_shapes", None)


@pytest.mark.parametrize("planted", PACKAGES, indirect=True)
def test_a_wrong_shape_is_refused_in_every_room(planted: ModuleType) -> None:
    assert planted.product(torch.ones(2, 3), torch.ones(3, 4)).shape == (2, 4)
    with pytest.raises(jaxtyping.TypeCheckError, match="right"):
        planted.product(torch.ones(2, 3), torch.ones(2, 4))
    with pytest.raises(jaxtyping.TypeCheckError, match="return"):
        planted.wrong_answer(torch.ones(2, 3))


@pytest.mark.parametrize(("name", "folder"), PACKAGES.items())
def test_our_packages_are_the_checkouts_and_are_checked(name: str, folder: str) -> None:
    module = importlib.import_module(name)
    assert Path(str(module.__file__)).resolve() == ROOT / folder / "__init__.py"
    loader = module.__spec__ and module.__spec__.loader
    assert "jaxtyping" in type(loader).__module__, f"{name} was loaded by {loader}"
