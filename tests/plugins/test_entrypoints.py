import subprocess
import sys

import pytest

from vg_engine.core.errors import AdapterNotFoundError, NotFoundError, PluginError
from vg_engine.plugins import entrypoints
from vg_engine.plugins.entrypoints import (
    ADAPTERS,
    MODEL_TYPES,
    PLUGINS,
    REGIONS,
    Entry,
    find,
    installed,
)
from vg_engine.plugins.manager import REQUIRED


@pytest.fixture
def install(tmp_path, monkeypatch):
    """Make a distribution as pip would leave it: metadata, and modules beside it."""
    monkeypatch.syspath_prepend(str(tmp_path))

    def made(name, version, group, *points, **modules):
        info = tmp_path / f"{name.replace('-', '_')}-{version}.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
        (info / "entry_points.txt").write_text("\n".join([f"[{group}]", *points]))
        for module, text in modules.items():
            (tmp_path / f"{module}.py").write_text(text)

    return made


def test_a_third_party_plugin_is_imported_only_when_it_is_asked_for(install):
    text = "class Sharp:\n    pass"
    install("vg-sharp", "1.2", PLUGINS, "sharp = vg_sharp_a:Sharp", vg_sharp_a=text)
    entry = find(PLUGINS, "sharp")
    assert entry == Entry("sharp", "vg_sharp_a:Sharp", "vg-sharp", "1.2", PLUGINS)
    assert entry in installed(PLUGINS)
    assert "vg_sharp_a" not in sys.modules
    assert entry.load().__name__ == "Sharp"


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
def test_a_broken_plugin_is_named_when_it_is_asked_for(install, text, cause):
    module = f"vg_broken_{abs(hash(text))}"
    install("vg-broken", "0.3", PLUGINS, f"fine = {module}:Plugin", **{module: text})
    entry = find(PLUGINS, "fine")  # listing it does no harm
    with pytest.raises(PluginError, match=r"'fine' of vg-broken 0\.3 is broken") as caught:
        entry.load()
    assert cause in str(caught.value)
    assert "\n" not in str(caught.value)


def test_what_has_to_be_called_is_a_function_or_a_class(install):
    install("vg-seven", "1", REGIONS, "seven = vg_mod_seven:SEVEN", vg_mod_seven="SEVEN = 7")
    with pytest.raises(PluginError, match=r"region 'seven' of vg-seven 1 .*int is no function"):
        find(REGIONS, "seven").load()


def test_claims_are_tried_on_the_barest_config_of_their_type(install):
    text = (
        "class Tower:\n"
        "    def claims(config): return config['model_type'] == 'zebra' and config['tower']\n"
        + "".join(f"    def {hook}(self): ...\n" for hook in REQUIRED)
    )
    install("vg-tower", "1", MODEL_TYPES, "zebra+tall = vg_mod_tower:Tower", vg_mod_tower=text)
    words = r"'zebra\+tall' of vg-tower 1 is broken .*KeyError: 'tower'"
    with pytest.raises(PluginError, match=words):
        find(MODEL_TYPES, "zebra+tall").load()


def test_two_claims_on_one_name_are_an_error_that_names_both_and_stops_nobody_else(install):
    ours = next(entry for entry in installed(ADAPTERS) if entry.distribution == "vg-engine")
    install("vg-one", "1.0", ADAPTERS, "same = one:A", "mine = one:A")
    install("vg-two", "2.0", ADAPTERS, "same = two:B", f"{ours.name} = thief:A")
    with pytest.raises(PluginError, match=r"vg-one 1\.0 .*vg-two 2\.0"):
        find(ADAPTERS, "same")
    with pytest.raises(PluginError) as caught:
        find(ADAPTERS, ours.name)
    assert ours.package in str(caught.value)
    assert "vg-two 2.0" in str(caught.value)
    assert find(ADAPTERS, "mine").distribution == "vg-one"


def test_an_unknown_name_is_answered_with_the_nearest(install):
    install("vg-sharp", "1", ADAPTERS, "sharpest = s:S")
    with pytest.raises(AdapterNotFoundError, match="did you mean sharpest"):
        find(ADAPTERS, "sharpes")
    with pytest.raises(NotFoundError, match="no plugin 'zzz'"):
        find(PLUGINS, "zzz")
    assert installed("vg_engine.nothing") == ()
    with pytest.raises(NotFoundError, match="none is installed"):
        find("vg_engine.nothing", "x")


def test_what_is_built_in_can_be_loaded():
    for entry in [entry for group in entrypoints.GROUPS for entry in installed(group)]:
        assert entry.distribution != "vg-engine" or entry.load() is not None


def test_listing_imports_nothing_heavy():
    code = (
        "import sys; from vg_engine.plugins import entrypoints as e\n"
        "[e.installed(g) for g in e.GROUPS]\n"
        "print({'numpy', 'torch', 'pluggy', 'transformers'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
