"""Other people's packages: what is broken in one stops nobody who does not ask for it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

import vg_engine
from vg_engine.cli.main import app
from vg_engine.core.errors import PluginError
from vg_engine.plugins import entrypoints
from vg_engine.testing.tiny import tiny_llava

ROOT = Path(__file__).resolve().parents[2]
HEAVY = ("torch", "numpy", "transformers", "pluggy", "PIL", "cv2", "vg_engine.model_adapters")
ASK = ("run", "--image", str(ROOT / "examples/scene.png"), "--text", "the red circle", "--json")
HOOKS = """
    def vg_load_model(self, spec): raise LookupError("asked")
    def vg_prepare_inputs(self, model): ...
    def vg_locate_image_tokens(self, model): ...
    def vg_extract_attention(self, model): ...
"""
WHOLE = f"class Adapter:\n    @classmethod\n    def claims(cls, config): return True\n{HOOKS}"

# How a module is broken, and what has to be said about it.
BROKEN = {
    "import error": (
        "from json import no_such_name",
        "ImportError: cannot import name 'no_such_name' from 'json'",
        "update or remove that package",
    ),
    "syntax error": ("class Adapter(:", "SyntaxError: ", "update or remove that package"),
    "missing dependency": (
        "import no_such_library.inside",
        "ModuleNotFoundError: No module named 'no_such_library'",
        "install no_such_library, or remove that package",
    ),
    "missing attribute": ("Other = 1", "AttributeError: ", "update or remove that package"),
    "exit": ("raise SystemExit(0)", "SystemExit: 0", "update or remove that package"),
    "no class": ("Adapter = 7", "'broken' (int) has no vg_load_model", "an adapter implements"),
    "no hooks": ("class Adapter: ...", "'broken' (Adapter) has no vg_load_model, vg_p", "implem"),
    "misspelt hook": (
        WHOLE.replace("vg_load_model", "vg_laod_model"),
        "there is no hook 'vg_laod_model'; did you mean vg_load_model?",
        "update or remove that package",
    ),
    "misspelt argument": (
        WHOLE.replace("(self, spec)", "(self, specs)"),
        "vg_load_model has an argument 'specs' that the hook has not got; did you mean spec?",
        "update or remove that package",
    ),
    "needs arguments": (
        f"class Adapter:\n    def __init__(self, size): ...\n{HOOKS}",
        "missing 1 required positional argument: 'size'",
        "update or remove that package",
    ),
    "claims raises": (
        WHOLE.replace("return True", "return config['tower']['kind'] == 'x'"),
        "KeyError: 'tower'",
        "update or remove that package",
    ),
}


class Site:
    """A folder of distributions as pip leaves them."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def install(self, name: str, points: str, version: str = "0.3", **modules: str) -> None:
        info = self.path / f"{name.replace('-', '_')}-{version}.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
        (info / "entry_points.txt").write_text(points)
        for module, text in modules.items():
            (self.path / f"{module}.py").write_text(text)

    def install_broken(self, how: str) -> None:
        """`vg-broken`, which claims LLaVA's models, too."""
        module = f"vg_broken_{how.replace(' ', '_')}"
        self.install(
            "vg-broken",
            f"[vg_engine.adapters]\nbroken = {module}:Adapter\n"
            f"[vg_engine.model_types]\nllava = {module}:Adapter\n",
            **{module: BROKEN[how][0]},
        )


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Site:
    path = tmp_path / "site"
    path.mkdir()
    monkeypatch.syspath_prepend(str(path))
    return Site(path)


def call(*arguments: str) -> Result:
    return CliRunner().invoke(app, list(arguments))


def rows(*arguments: str) -> list[dict[str, object]]:
    return [json.loads(line) for line in call("adapters", "--json", *arguments).stdout.splitlines()]


@pytest.mark.parametrize("how", BROKEN)
def test_who_asks_for_a_broken_adapter_is_told_in_one_line(site: Site, how: str) -> None:
    site.install_broken(how)
    _, cause, advice = BROKEN[how]
    done = call(*ASK, "--adapter", "broken")
    assert (done.exit_code, done.stdout) == (2, "")
    (line,) = done.stderr.splitlines()
    assert line.startswith("error: adapter 'broken' of vg-broken 0.3 is broken (vg_broken_")
    assert cause in line
    assert advice in line


@pytest.mark.parametrize("how", BROKEN)
def test_a_broken_claimant_leaves_the_others_to_work(site: Site, how: str, llava: Path) -> None:
    site.install_broken(how)
    (row,) = [row for row in rows("--check") if row["name"] == "broken"]
    assert BROKEN[how][1] in str(row["error"])
    with vg_engine.load(str(llava)) as engine:
        assert engine._hooks.adapter == "llava"


@pytest.fixture(scope="module")
def llava(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_llava(tmp_path_factory.mktemp("llava") / "tiny", layers=2)


def test_the_embedded_model_answers_beside_a_broken_package(site: Site) -> None:
    site.install_broken("syntax error")
    done = call(*ASK)
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["found"] is True


def fresh(site: Site, *arguments: str) -> tuple[subprocess.CompletedProcess[str], list[str]]:
    """`vg-engine` in a process of its own; also, the modules that it has imported."""
    code = (
        "import sys\nfrom vg_engine.cli.main import app\n"
        f"try: app({list(arguments)!r})\n"
        "finally: print(*sorted(sys.modules), file=open('modules.txt', 'w'))"
    )
    environment = os.environ | {"PYTHONPATH": str(site.path)}
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=site.path,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    return done, (site.path / "modules.txt").read_text().split()


def test_listing_imports_no_adapter_and_nothing_heavy(site: Site) -> None:
    for how in BROKEN:
        site.install(
            f"vg-{how.replace(' ', '-')}",
            f"[vg_engine.adapters]\n{how.replace(' ', '_')} = vg_mod_{len(how)}:Adapter\n"
            f"[vg_engine.model_types]\nzebra = vg_mod_{len(how)}:Adapter\n",
            **{f"vg_mod_{len(how)}": BROKEN[how][0]},
        )
    done, modules = fresh(site, "adapters", "--json")
    assert (done.returncode, done.stderr) == (0, "")
    listed = {row["name"]: row for row in map(json.loads, done.stdout.splitlines())}
    assert listed["syntax_error"] == {
        "name": "syntax_error",
        "distribution": "vg-syntax-error",
        "version": "0.3",
        "model_types": ["zebra"],
    }
    assert {how.replace(" ", "_") for how in BROKEN} <= set(listed)
    assert listed["llava"]["distribution"] == "vg-engine"
    assert not [name for name in modules if name.startswith("vg_mod_")]
    assert not {name for name in modules if name.startswith(HEAVY)}
    # What typer and rich need; half a second on a slow machine.
    assert len(modules) < 450


def test_the_table_has_a_line_per_adapter(site: Site) -> None:
    name = "vg-sharp-with-a-name-that-is-rather-long-for-a-narrow-table"
    site.install(
        name,
        "[vg_engine.adapters]\nsharp[bold] = s:S\n"
        "[vg_engine.model_types]\nzebra = s:S\nzebra_with_stripes = s:S\n",
        version="1.2",
    )
    done = call("adapters")
    assert done.exit_code == 0, done.output
    lines = [line.split() for line in done.stdout.splitlines()]
    assert ["sharp[bold]", name, "1.2", "zebra,", "zebra_with_stripes"] in lines


def test_an_adapter_without_a_name_is_listed(site: Site) -> None:
    site.install("vg-mute", "[vg_engine.model_types]\nzebra = vg_mute_a:Adapter\n", vg_mute_a=WHOLE)
    assert rows()[-1] == {
        "name": None,
        "distribution": "vg-mute",
        "version": "0.3",
        "model_types": ["zebra"],
    }
    assert rows("--check")[-1]["error"] is None
    assert ["-", "vg-mute", "0.3", "zebra"] in [
        line.split() for line in call("adapters").stdout.splitlines()
    ]


def test_two_packages_with_one_name(site: Site) -> None:
    site.install("vg-one", "[vg_engine.adapters]\nsame = one:A\n", version="1.0")
    site.install("vg-two", "[vg_engine.adapters]\nsame = two:B\n", version="2.0")
    both = [(row["distribution"], row["version"]) for row in rows() if row["name"] == "same"]
    assert both == [("vg-one", "1.0"), ("vg-two", "2.0")]
    done = call(*ASK, "--adapter", "same")
    assert (done.exit_code, len(done.stderr.splitlines())) == (2, 1)
    assert "offered by vg-one 1.0 (one:A) and vg-two 2.0 (two:B); uninstall one" in done.stderr
    assert call(*ASK).exit_code == 0


def test_two_packages_with_one_model_type(site: Site, llava: Path) -> None:
    site.install(
        "vg-greedy",
        "[vg_engine.adapters]\ngreedy = vg_greedy_a:Adapter\n"
        "[vg_engine.model_types]\nllava = vg_greedy_a:Adapter\n",
        vg_greedy_a=WHOLE,
    )
    ask = (*ASK, "--model", str(llava))
    done = call(*ask)
    assert (done.exit_code, len(done.stderr.splitlines())) == (2, 1)
    assert "'llava' are claimed by" in done.stderr
    assert "vg-greedy 0.3 (vg_greedy_a:Adapter)" in done.stderr
    assert done.stderr.rstrip().endswith("choose one with --adapter")
    assert call(*ask, "--adapter", "llava").exit_code == 0


def test_a_claim_is_settled_by_asking(site: Site, llava: Path) -> None:
    site.install(
        "vg-modest",
        "[vg_engine.model_types]\nllava = vg_modest_a:Adapter\n",
        vg_modest_a=WHOLE.replace("return True", "return 'mine' in config"),
    )
    with vg_engine.load(str(llava)) as engine:
        assert engine._hooks.adapter == "llava"
    config = llava / "config.json"
    kept = config.read_text()
    config.write_text(json.dumps(json.loads(kept) | {"mine": True}))
    try:
        with pytest.raises(PluginError, match=r"claimed by.*vg-engine.*vg-modest"):
            vg_engine.load(str(llava))
    finally:
        config.write_text(kept)


@pytest.mark.parametrize(
    ("points", "metadata"),
    [
        ("[vg_engine.adapters]\nno equals sign\n", "Name: vg-torn\nVersion: 9\n"),
        ("[vg_engine.adapters]\nx = a:b\n", None),
        ("[vg_engine.adapters]\nx = a:b\n", ""),
    ],
)
def test_metadata_that_is_torn_stops_nobody(
    site: Site, points: str, metadata: str | None, caplog: pytest.LogCaptureFixture
) -> None:
    site.install("vg-whole", "[vg_engine.adapters]\nwhole = vg_whole:Adapter\n")
    torn = site.path / "vg_torn-9.dist-info"
    torn.mkdir()
    (torn / "entry_points.txt").write_text(points)
    if metadata is not None:
        (torn / "METADATA").write_text(metadata)
    names = [entry.name for entry in entrypoints.installed(entrypoints.ADAPTERS)]
    assert {"whole", "llava"} <= set(names)
    assert len(names) == len(set(names))
    done = call("adapters")
    assert done.exit_code == 0, done.output
    if metadata and "Name" in metadata:
        assert done.stderr.startswith("note: the entry points of vg-torn cannot be read")
    assert call(*ASK).exit_code == 0
