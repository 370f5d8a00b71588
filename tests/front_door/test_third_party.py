"""Other people's packages: what is broken in one stops nobody who does not ask for it."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from commands import call, refused

import vg_engine
from vg_engine.core.errors import PluginError
from vg_engine.plugins import entrypoints
from vg_engine.testing.tiny import tiny_llava

ROOT = Path(__file__).resolve().parents[2]
HEAVY = ("torch", "numpy", "transformers", "pluggy", "PIL", "cv2")
HEAVY += ("vg_engine.model_adapters.families", "vg_engine.model_adapters.shared.huggingface")
ASK = ("run", "--image", str(ROOT / "examples/scene.png"), "--text", "the red circle", "--json")
HOOKS = """
    def vg_load_model(self, spec): raise LookupError("asked")
    def vg_prepare_inputs(self, model): ...
    def vg_locate_image_tokens(self, model): ...
    def vg_extract_attention(self, model): ...
"""
WHOLE = f"class Adapter:\n    @classmethod\n    def claims(cls, config): return True\n{HOOKS}"

# How a module is broken, and what its message must hold.
BROKEN = {
    "import error": ("from json import lost", "ImportError: cannot import name 'lost' from 'json'"),
    "syntax error": ("class Adapter(:", "SyntaxError: "),
    "missing dependency": ("import lost.inside", "ModuleNotFoundError: No module named 'lost'"),
    "missing attribute": ("Other = 1", "AttributeError: "),
    "exit": ("raise SystemExit(0)", "SystemExit: 0"),
    "no class": ("Adapter = 7", "'broken' (int) has no vg_load_model"),
    "no hooks": ("class Adapter: ...", "'broken' (Adapter) has no vg_load_model, vg_p"),
    "misspelt hook": (
        WHOLE.replace("vg_load_model", "vg_laod_model"),
        "there is no hook 'vg_laod_model'; did you mean vg_load_model?",
    ),
    "misspelt argument": (
        WHOLE.replace("(self, spec)", "(self, specs)"),
        "vg_load_model has an argument 'specs' that the hook does not have; did you mean spec?",
    ),
    "needs arguments": (
        f"class Adapter:\n    def __init__(self, size): ...\n{HOOKS}",
        "missing 1 required positional argument: 'size'",
    ),
    "claims raises": (WHOLE.replace("return True", "return config['tower']"), "KeyError: 'tower'"),
}
ADVICE = dict.fromkeys(BROKEN, "update or remove that package") | {
    "missing dependency": "install lost, or remove that package",
    **dict.fromkeys(("no class", "no hooks"), "an adapter implements"),
}


class Site:
    """A folder of distributions as pip leaves them."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def install(
        self, name: str, *, adapters: str = "", types: str = "", version: str = "0.3", **files: str
    ) -> None:
        """Installs `name`; modules are given by their text."""
        info = self.path / f"{name.replace('-', '_')}-{version}.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
        points = f"[vg_engine.adapters]\n{adapters}\n[vg_engine.model_types]\n{types}\n"
        (info / "entry_points.txt").write_text(points)
        for module, text in files.items():
            (self.path / f"{module}.py").write_text(text)

    def install_broken(self, how: str) -> None:
        """`vg-broken`, which claims LLaVA's models, too."""
        module = f"vg_broken_{how.replace(' ', '_')}"
        points = {"adapters": f"broken = {module}:Adapter", "types": f"llava = {module}:Adapter"}
        self.install("vg-broken", **points, **{module: BROKEN[how][0]})


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Site:
    monkeypatch.syspath_prepend(str(tmp_path))
    return Site(tmp_path)


def rows(text: str) -> dict[str | None, dict[str, object]]:
    return {row["name"]: row for row in map(json.loads, text.splitlines())}


@pytest.mark.parametrize("how", BROKEN)
def test_what_is_broken_is_told_and_stops_nobody_else(site: Site, how: str, llava: Path) -> None:
    site.install_broken(how)
    _, cause = BROKEN[how]
    line = refused(*ASK, "--adapter", "broken")
    assert line.startswith("error: adapter 'broken' of vg-broken 0.3 is broken (vg_broken_")
    assert cause in line
    assert ADVICE[how] in line
    done = call("adapters", "--check", "--json", code=2)
    checked = rows(done.stdout)
    assert cause in str(checked["broken"]["error"])
    assert checked["llava"]["error"] is None
    assert done.stderr.startswith("error: adapter 'broken' of vg-broken 0.3 is broken")
    with vg_engine.load(str(llava)) as engine:
        assert engine._hooks.adapter == "llava"


@pytest.fixture(scope="module")
def llava(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_llava(tmp_path_factory.mktemp("llava") / "tiny", layers=2)


def test_the_embedded_model_answers_beside_a_broken_package(site: Site) -> None:
    site.install_broken("syntax error")
    assert json.loads(call(*ASK).stdout)["found"] is True


def test_listing_imports_no_adapter_and_nothing_heavy(site: Site) -> None:
    for how, (text, _) in BROKEN.items():
        module, name = f"vg_mod_{len(how)}", how.replace(" ", "_")
        points = {"adapters": f"{name} = {module}:Adapter", "types": f"zebra = {module}:Adapter"}
        site.install(f"vg-{how.replace(' ', '-')}", **points, **{module: text})
    code = (
        "import sys\nfrom vg_engine.cli.main import app\ntry: app(['adapters', '--json'])\n"
        "finally: print(*sorted(sys.modules), file=open('modules.txt', 'w'))"
    )
    environment = os.environ | {"PYTHONPATH": str(site.path)}
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=site.path, env=environment, timeout=120,
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    listed = rows(done.stdout)
    assert list(listed["syntax_error"].items()) == [
        ("name", "syntax_error"), ("distribution", "vg-syntax-error"), ("version", "0.3"),
        ("model_types", ["zebra"]),
    ]  # fmt: skip
    assert {how.replace(" ", "_") for how in BROKEN} <= set(listed)
    assert listed["llava"]["distribution"] == "vg-engine"
    modules = (site.path / "modules.txt").read_text().split()
    assert not [name for name in modules if name.startswith(("vg_mod_", *HEAVY))]
    # What typer and rich need; half a second on a slow machine.
    assert len(modules) < 450


def test_the_table_has_a_line_per_adapter(site: Site) -> None:
    name = "vg-sharp-with-a-name-that-is-rather-long-for-a-narrow-table"
    types = "zebra = s:S\nzebra_with_stripes = s:S"
    site.install(name, adapters="sharp[bold] = s:S", types=types, version="1.2")
    site.install("vg-mute", types="zebra = vg_mute_a:Adapter", vg_mute_a=WHOLE)
    lines = [line.split() for line in call("adapters").stdout.splitlines()]
    assert ["sharp[bold]", name, "1.2", "zebra,", "zebra_with_stripes"] in lines
    assert ["-", "vg-mute", "0.3", "zebra"] in lines, "an adapter without a name"
    row = {"name": None, "distribution": "vg-mute", "version": "0.3", "model_types": ["zebra"]}
    assert rows(call("adapters", "--json").stdout)[None] == row
    checked = call("adapters", "--check", "--json", code=2).stdout
    assert rows(checked)[None]["error"] is None


def test_two_packages_with_one_name(site: Site) -> None:
    site.install("vg-one", adapters="same = one:A", version="1.0")
    site.install("vg-two", adapters="same = two:B", version="2.0")
    listed = map(json.loads, call("adapters", "--json").stdout.splitlines())
    both = [(row["distribution"], row["version"]) for row in listed if row["name"] == "same"]
    assert both == [("vg-one", "1.0"), ("vg-two", "2.0")]
    error = refused(*ASK, "--adapter", "same")
    assert "offered by vg-one 1.0 (one:A) and vg-two 2.0 (two:B); uninstall one" in error
    call(*ASK)


def test_two_packages_with_one_model_type(site: Site, llava: Path) -> None:
    place = "vg_greedy_a:Adapter"
    points = {"adapters": f"greedy = {place}", "types": f"llava = {place}"}
    site.install("vg-greedy", **points, vg_greedy_a=WHOLE)
    ask = (*ASK, "--model", str(llava))
    error = refused(*ask)
    assert "'llava' are claimed by" in error
    assert f"vg-greedy 0.3 ({place})" in error
    assert error.endswith("choose one with --adapter")
    call(*ask, "--adapter", "llava")


def test_a_claim_is_settled_by_asking(site: Site, llava: Path, tmp_path: Path) -> None:
    modest = WHOLE.replace("return True", "return 'mine' in config")
    site.install("vg-modest", types="llava = vg_modest_a:Adapter", vg_modest_a=modest)
    with vg_engine.load(str(llava)) as engine:
        assert engine._hooks.adapter == "llava"
    config = json.loads((llava / "config.json").read_text()) | {"mine": True}
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(PluginError, match=r"claimed by.*vg-engine.*vg-modest"):
        vg_engine.load(str(tmp_path))


@pytest.mark.parametrize(
    ("points", "metadata"),
    [
        ("[vg_engine.adapters]\nno equals sign\n", "Name: vg-torn\nVersion: 9\n"),
        ("[vg_engine.adapters]\nx = a:b\n", None),
        ("[vg_engine.adapters]\nx = a:b\n", ""),
    ],
)
def test_metadata_that_is_torn_stops_nobody(site: Site, points: str, metadata: str | None) -> None:
    site.install("vg-whole", adapters="whole = vg_whole:Adapter")
    torn = site.path / "vg_torn-9.dist-info"
    torn.mkdir()
    (torn / "entry_points.txt").write_text(points)
    if metadata is not None:
        (torn / "METADATA").write_text(metadata)
    names = [entry.name for entry in entrypoints.installed(entrypoints.ADAPTERS)]
    assert {"whole", "llava"} <= set(names)
    assert len(names) == len(set(names))
    done = call("adapters")
    if metadata:
        assert done.stderr.startswith("note: the entry points of vg-torn cannot be read")
    call(*ASK)
