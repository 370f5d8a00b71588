import subprocess
import sys

import pytest

from vg_engine.core.contract.prompt import Prompt
from vg_engine.core.errors import HeadSetNotFoundError, InputError, ModelNotFoundError
from vg_engine.core.heads import parse_heads
from vg_engine.plugins.entrypoints import ADAPTERS, REGIONS, installed
from vg_engine.registry import catalog

LLAVA = "llava-hf/llava-1.5-7b-hf"


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    monkeypatch.setenv(catalog.HOME, str(tmp_path))
    for folder in ("heads", "models"):
        (tmp_path / folder).mkdir()
    return tmp_path


def add_heads(home, name, models="org/m", more="rule: given"):
    text = f"name: {name}\nmodels: [{models}]\nheads: [{{head: L1H1}}]\n{more}\n"
    (home / "heads" / f"{name}.yaml").write_text(text)


def add_model(home, name, ids=LLAVA, more=""):
    (home / "models" / f"{name}.yaml").write_text(f"name: {name}\nids: [{ids}]\n{more}\n")


def of_entry(name):
    found = catalog.for_entry(catalog.model_entry(name))
    return found and found.name


def heads_for(source, *names, shape=(32, 32)):
    layers, per_layer = shape
    found = catalog.for_model(source, layers=layers, heads_per_layer=per_layer, names=names)
    return found and found.name


def test_the_published_heads():
    heads = {"7b": ("L14H24,L14H13,L14H26", 32), "13b": ("L15H39,L16H30,L7H2", 40)}
    for size, (names, layers) in heads.items():
        found = catalog.head_set(f"llava-1.5-{size}")
        assert found.heads == parse_heads(names)
        assert (found.layers, found.heads_per_layer, found.rule) == (layers, layers, "published")
        assert "not re-measured by this project" in str(found.provenance["notes"])
        assert "2503.06287" in str(found.provenance["source"])
        assert found.provenance["prompt"] == {"form": "bare", "query_row": "expression_last"}


def test_every_entry_names_what_exists():
    adapters = {entry.name for entry in installed(ADAPTERS)}
    regions = {entry.name for entry in installed(REGIONS)}
    sets = {heads.name for heads in catalog.head_sets()}
    for entry in catalog.models():
        assert entry.adapter in {None, *adapters}, entry.name
        assert entry.region in {None, *regions}, entry.name
        assert entry.heads in {None, *sets}, entry.name
        assert entry.folder is None or (entry.folder / "config.json").is_file(), entry.name
        Prompt(**entry.prompt.stated())
    for heads in catalog.head_sets():
        Prompt(**heads.provenance.get("prompt", {}))


def test_models_answer_to_their_names():
    entry = catalog.model_entry("liuhaotian/llava-v1.5-7b")
    assert entry == catalog.model_entry(LLAVA) == catalog.find_model("LLaVA-1.5-7B")
    assert catalog.find_model("nobody/knows") is None
    embedded = catalog.model_entry(catalog.EMBEDDED)
    assert catalog.find_model(str(catalog.OURS / "embedded")) == embedded
    assert embedded == catalog.model_entry("embedded")
    assert "only knows its shapes" in str(embedded.notes)
    assert embedded.folder == catalog.OURS.absolute() / "embedded"
    with pytest.raises(ModelNotFoundError, match=r"did you mean llava-1\.5-7b"):
        catalog.model_entry("lava-1.5-7b")
    with pytest.raises(HeadSetNotFoundError, match=r"L14H24.*did you mean llava-1\.5-7b"):
        catalog.head_set("llava-15-7b")


def test_a_model_finds_its_heads_by_id_folder_or_origin():
    for source in (LLAVA, f"/x/{LLAVA}", "/x/llava-1.5-7b-hf", "/x/LLaVA-v1.5-7B", "llava-1.5-7b"):
        assert heads_for(source) == "llava-1.5-7b", source
    assert heads_for("/somewhere/mine", LLAVA) == "llava-1.5-7b"
    assert heads_for("/somewhere/mine") is None
    assert heads_for("llava-1.5-7b-hf", shape=(4, 4)) is None


def test_the_users_entries_win(home):
    add_heads(home, "llava-1.5-7b")
    assert catalog.head_set("llava-1.5-7b").rule == "given"
    assert [s.name for s in catalog.head_sets()].count("llava-1.5-7b") == 1
    add_heads(home, "better", "llava-hf/llava-1.5-13b-hf")
    add_model(home, "a", "llava-hf/llava-1.5-13b-hf", "heads: better\nfolder: files")
    assert heads_for("llava-hf/llava-1.5-13b-hf", shape=(40, 40)) == "better"
    (home / "files").mkdir()
    assert catalog.find_model(str(home / "files")) == catalog.model_entry("a")


def test_hidden_files_are_not_read_and_a_name_means_one_model(home):
    add_model(home, "a", "org/one")
    (home / "models" / "._a.yaml").write_bytes(b"\0\5\x16\7")
    assert catalog.model_entry("org/one").name == "a"
    add_model(home, "b", "org/one")
    with pytest.raises(InputError, match="'org/one' is a and b in"):
        catalog.find_model("org/one")
    (home / "defaults.yaml").write_text("org/x: a\nOrg/x: b\n")
    with pytest.raises(InputError, match="a model twice"):
        catalog.defaults()


def test_a_set_of_the_users_wins_over_our_entrys_choice(home):
    assert of_entry("llava-1.5-7b") == "llava-1.5-7b"
    add_heads(home, "other", "somebody/else")
    assert of_entry("llava-1.5-7b") == "llava-1.5-7b"
    add_heads(home, "mine", LLAVA)
    assert of_entry("llava-1.5-7b") == "mine"
    assert heads_for("/somewhere/llava-1.5-7b-hf") == "mine"
    # What the user's own entry names stands.
    add_model(home, "llava-1.5-7b", more="heads: other")
    assert of_entry("llava-1.5-7b") == "other"


def test_a_broken_file_of_the_user_is_named_whose_folder_needs_no_variable(home, monkeypatch):
    add_heads(home, "mine", more="rule: Wrong!")
    with pytest.raises(InputError, match=r"mine\.yaml: rule: 'Wrong!'"):
        catalog.head_sets()
    monkeypatch.delenv(catalog.HOME)
    assert catalog.user_folder().name == "vg-engine"


def test_the_catalogue_is_light():
    code = (
        "import sys; from vg_engine.registry import catalog, adapters\n"
        "catalog.models(); catalog.head_sets()\n"
        "print({'numpy', 'torch', 'transformers', 'cv2', 'scipy', 'PIL'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


def test_what_the_user_chose_goes_before_everything(home):
    for name in ("chosen", "listing"):
        add_heads(home, name, LLAVA)
    add_model(home, "llava-1.5-7b", more="heads: listing")
    assert of_entry("llava-1.5-7b") == "listing"
    catalog.set_default(catalog.model_key(LLAVA), "chosen")
    assert catalog.defaults() == {"llava-1.5-7b": "chosen"}
    assert of_entry("llava-1.5-7b") == "chosen"
    # So do copies of that model, by their folder's name or by what their config says.
    assert heads_for("/somewhere/llava-1.5-7b-hf") == "chosen"
    assert heads_for("/somewhere/mine", LLAVA) == "chosen"
    assert heads_for("/somewhere/else") is None
    catalog.set_default("llava-1.5-7b", None)
    assert of_entry("llava-1.5-7b") == "listing"


def test_a_default_counts_for_an_entry_that_names_no_heads(home):
    add_model(home, "plain", "org/plain", "aliases: [p]")
    add_heads(home, "mine", "")
    assert of_entry("plain") is None
    catalog.set_default(catalog.model_key("P"), "mine")
    assert of_entry("plain") == "mine"
    for source in ("plain", "p", "org/plain"):
        assert heads_for(source) == "mine"


def test_a_default_that_does_not_fit_or_is_gone_is_not_passed_over(home):
    add_heads(home, "small", "", "rule: given\nlayers: 4\nheads_per_layer: 2")
    catalog.set_default("org/m", "small")
    # The engine then refuses it, aloud.
    assert heads_for("org/m") == "small"
    # A folder that happens to be called so is another model.
    assert heads_for("/somewhere/m") is None
    assert heads_for("/somewhere/m", shape=(4, 2)) == "small"
    catalog.set_default("org/m", "gone")
    with pytest.raises(HeadSetNotFoundError, match=r"'gone', is gone .*defaults\.yaml.*--reset"):
        heads_for("org/m")
    assert catalog.used_for()["gone"] == ("org/m",)


def test_a_model_in_memory_may_be_called_anything():
    for name in ("~nobody-at-all/x", "a\0b", "", " ", "x" * 5000):
        assert catalog.default_of(name) is None
        assert catalog.model_key(name) == name


def test_where_a_set_lies(home):
    assert catalog.file_of("embedded") == catalog.OURS / "heads" / "embedded.yaml"
    add_heads(home, "embedded")
    assert catalog.file_of("embedded") == home / "heads" / "embedded.yaml"
    assert catalog.file_of("nobody") == home / "heads" / "nobody.yaml"
