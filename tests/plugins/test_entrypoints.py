import subprocess
import sys
from pathlib import Path

import pytest

from vg_engine.core.errors import AdapterNotFoundError, NotFoundError, PluginError
from vg_engine.plugins.entrypoints import (
    ADAPTERS,
    GROUPS,
    MODEL_TYPES,
    PLUGINS,
    Entry,
    find,
    installed,
)
from vg_engine.plugins.manager import REQUIRED


def install(site: Path, name: str, version: str, points: str, **modules: str) -> None:
    """A distribution as pip would leave it: metadata, and modules beside it."""
    info = site / f"{name.replace('-', '_')}-{version}.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
    (info / "entry_points.txt").write_text(points)
    for module, text in modules.items():
        (site / f"{module}.py").write_text(text)


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.syspath_prepend(str(tmp_path))
    return tmp_path


def test_a_third_party_plugin_is_listed_without_being_imported(site: Path) -> None:
    install(
        site,
        "vg-sharp",
        "1.2",
        f"[{ADAPTERS}]\nsharp = vg_sharp_a:Sharp\n",
        vg_sharp_a="raise SystemExit('imported')",
    )
    entry = find(ADAPTERS, "sharp")
    assert entry == Entry("sharp", "vg_sharp_a:Sharp", "vg-sharp", "1.2", ADAPTERS)
    assert entry in installed(ADAPTERS)
    assert "vg_sharp_a" not in sys.modules


def test_it_is_loaded_when_asked_for(site: Path) -> None:
    install(
        site, "vg-b", "1", f"[{PLUGINS}]\nb = vg_mod_b:Sharp\n", vg_mod_b="class Sharp:\n    pass"
    )
    assert find(PLUGINS, "b").load().__name__ == "Sharp"


@pytest.mark.parametrize(
    ("text", "cause"),
    [
        ("import numpy.no_such_thing", "ModuleNotFoundError"),
        ("Other = 1", "AttributeError"),
        ("1 / 0", "ZeroDivisionError: division by zero"),
        ("def (", "SyntaxError"),
        ("raise ValueError('two\\nlines')", "ValueError: two lines"),
    ],
)
def test_a_broken_plugin_is_named_when_it_is_asked_for(site: Path, text: str, cause: str) -> None:
    module = f"vg_broken_{abs(hash(text))}"
    install(site, "vg-broken", "0.3", f"[{PLUGINS}]\nfine = {module}:Plugin\n", **{module: text})
    entry = find(PLUGINS, "fine")  # listing it does no harm
    with pytest.raises(PluginError, match=r"'fine' of vg-broken 0\.3 is broken") as caught:
        entry.load()
    assert cause in str(caught.value)
    assert "\n" not in str(caught.value)


def test_claims_are_tried_on_the_barest_config_of_their_type(site: Path) -> None:
    install(
        site,
        "vg-tower",
        "1",
        f"[{MODEL_TYPES}]\nzebra+tall = vg_mod_tower:Tower\n",
        vg_mod_tower="class Tower:\n"
        "    def claims(config): return config['model_type'] == 'zebra' and config['tower']\n"
        + "".join(f"    def {hook}(self): ...\n" for hook in REQUIRED),
    )
    with pytest.raises(
        PluginError, match=r"'zebra\+tall' of vg-tower 1 is broken .*KeyError: 'tower'"
    ):
        find(MODEL_TYPES, "zebra+tall").load()


def test_two_claims_on_one_name_are_an_error_that_names_both(site: Path) -> None:
    install(site, "vg-one", "1.0", f"[{ADAPTERS}]\nsame = one:A\n")
    install(site, "vg-two", "2.0", f"[{ADAPTERS}]\nsame = two:B\n")
    with pytest.raises(PluginError, match=r"vg-one 1\.0 .*vg-two 2\.0"):
        find(ADAPTERS, "same")


def test_a_clash_with_a_built_in_names_both(site: Path) -> None:
    mine = next(entry for entry in installed(ADAPTERS) if entry.distribution == "vg-engine")
    install(site, "vg-thief", "6", f"[{ADAPTERS}]\n{mine.name} = thief:A\n")
    with pytest.raises(PluginError) as caught:
        find(ADAPTERS, mine.name)
    assert mine.package in str(caught.value)
    assert "vg-thief 6" in str(caught.value)


def test_a_clash_elsewhere_stops_nobody(site: Path) -> None:
    install(site, "vg-one", "1.0", f"[{ADAPTERS}]\nsame = one:A\nmine = one:A\n")
    install(site, "vg-two", "2.0", f"[{ADAPTERS}]\nsame = two:B\n")
    assert find(ADAPTERS, "mine").distribution == "vg-one"


def test_an_unknown_name_is_answered_with_the_nearest(site: Path) -> None:
    install(site, "vg-sharp", "1", f"[{ADAPTERS}]\nsharpest = s:S\n")
    with pytest.raises(AdapterNotFoundError, match="did you mean sharpest"):
        find(ADAPTERS, "sharpes")
    with pytest.raises(NotFoundError, match="no plugin 'zzz'"):
        find(PLUGINS, "zzz")


def test_an_unknown_group_is_empty() -> None:
    assert installed("vg_engine.nothing") == ()
    with pytest.raises(NotFoundError, match="none is installed"):
        find("vg_engine.nothing", "x")


def test_what_is_built_in_can_be_loaded() -> None:
    for group in GROUPS:
        for entry in installed(group):
            if entry.distribution == "vg-engine":
                assert entry.load() is not None


def test_listing_imports_nothing_heavy() -> None:
    code = (
        "import sys; from vg_engine.plugins import entrypoints as e\n"
        "[e.installed(g) for g in e.GROUPS]\n"
        "print({'numpy', 'torch', 'pluggy', 'transformers'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
