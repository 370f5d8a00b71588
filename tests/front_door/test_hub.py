"""Models on the hub: one short question, and the cache where there is no answer."""

import hashlib
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Event, Thread

import pytest
from huggingface_hub import constants

import vg_engine
from vg_engine.core.errors import ModelNotFoundError, WeightsError
from vg_engine.model_adapters.shared import hub
from vg_engine.registry.catalog import find_model

COMMIT = "c" * 40
Server = Callable[..., list[str]]


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Server]:
    """Start a hub on this machine; what is asked of it is listed."""
    over, running = Event(), []

    def start(status: int | None, code: str = "", folder: Path | None = None) -> list[str]:
        asked: list[str] = []
        if status is None:
            monkeypatch.setattr(constants, "HF_HUB_ETAG_TIMEOUT", 0.2)

        class Handler(BaseHTTPRequestHandler):
            def do_HEAD(self) -> None:
                asked.append(self.path)
                if status is None:
                    over.wait()
                    return
                file = folder / Path(self.path).name if folder else None
                body = file.read_bytes() if file and file.is_file() else b""
                self.send_response(status if body or not folder else 404)
                self.send_header("X-Error-Code", code if body or not folder else "EntryNotFound")
                self.send_header("X-Repo-Commit", COMMIT)
                self.send_header("ETag", f'"{hashlib.sha256(body).hexdigest()}"')
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                if self.command == "GET":
                    self.wfile.write(body)

            do_GET = do_HEAD  # noqa: N815 - the names that the server calls

            def log_message(self, *_: object) -> None: ...

        here = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        running.append(here)
        Thread(target=here.serve_forever, args=(0.01,), daemon=True).start()
        url = f"http://127.0.0.1:{here.server_port}"
        monkeypatch.setattr(constants, "ENDPOINT", url)
        template = url + "/{repo_id}/resolve/{revision}/{filename}"
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
        return asked

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    yield start
    over.set()
    for each in running:
        each.shutdown()
        each.server_close()


@pytest.mark.parametrize(
    ("status", "code", "words"),
    [
        (None, "", r"gave no answer in 0\.2 seconds; go online, .*HF_HUB_ETAG_TIMEOUT=60"),
        (503, "", r"cannot be reached \(.*503.*; go online, or give the folder"),
        (404, "", "has no such model; check its name"),
        (401, "RepoNotFound", "has no such model; .*hf auth login"),
        (403, "GatedRepo", "gives it on request only; ask on the model's page"),
        (404, "RevisionNotFound", "has no revision 'r' of it"),
        (404, "EntryNotFound", r"has no config\.json of it"),
    ],
)
def test_a_hub_that_does_not_give_a_model_is_asked_once(
    server: Server, status: int | None, code: str, words: str
) -> None:
    asked = server(status, code)
    with pytest.raises(
        ModelNotFoundError, match=f"no folder 'some/id', and the hub .*{words}"
    ) as e:
        vg_engine.load("some/id", adapter="llava", revision="r")
    assert "\n" not in str(e.value)
    assert [path for path in asked if not path.startswith("/api")] == [
        "/some/id/resolve/r/config.json"
    ]


def test_no_hub_at_all(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    server(404)
    url = "http://127.0.0.1:9/{repo_id}/{revision}/{filename}"
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", url)
    with pytest.raises(
        ModelNotFoundError, match=r"cannot be reached.*did you mean llava-hf/llava-"
    ):
        vg_engine.load("llava-hf/llava-1.5-7b")


def test_a_cached_model_is_loaded_without_the_hub(
    server: Server, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    entry = find_model("embedded")
    assert entry is not None
    server(200, folder=entry.folder)
    names = []
    with vg_engine.load("some/id") as engine:
        names.append((engine.model.name, engine.model.revision))
    asked = server(503)
    with vg_engine.load("some/id") as engine:
        names.append((engine.model.name, engine.model.revision))
    assert names == [("some/id", COMMIT)] * 2
    assert [path for path in asked if not path.startswith("/api/agent")] == [
        "/some/id/resolve/main/config.json"
    ]
    assert "the cached copy of some/id is used" in caplog.text
    caplog.clear()
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert hub.find("some/id", None)[1]
    with pytest.raises(ModelNotFoundError, match="while HF_HUB_OFFLINE is set, has no such model"):
        hub.find("some/id", "other")
    assert not caplog.text
    (hub.find("some/id", None)[0] / "model.safetensors").unlink()
    with pytest.raises(WeightsError, match=r"of some/id are not in the cache .*; go online"):
        vg_engine.load("some/id")
