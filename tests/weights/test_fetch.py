"""Fetching from a hub and a web server of our own on this machine: complete, checked, continued, or nothing."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from psdbench import weights
from psdbench.errors import EnvironmentProblem
from psdbench.weights import Entry, File, Source
from psdbench.weights.fetch import PARTIAL, fetch

COMMIT = "0123456789abcdef0123456789abcdef01234567"
MODEL, CONFIG = b"weights " * 5000, b'{"hidden_size": 8}'


class Hub(ThreadingHTTPServer):
    """Answers /OWNER/NAME/resolve/REVISION/FILE as the hub does, and /FILE as a plain web server."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Answer)
        self.files: dict[str, bytes] = {}
        self.stated: dict[str, str] = {}
        self.asked: list[tuple[str, str, str]] = []

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class Answer(BaseHTTPRequestHandler):
    """One request."""

    server: Hub

    def do_HEAD(self) -> None:
        self.answer()

    def do_GET(self) -> None:
        self.answer()

    def answer(self) -> None:
        wish = self.headers.get("Range", "")
        self.server.asked.append((self.command, self.path, wish))
        content = self.server.files.get(self.path)
        if content is None:
            self.send_response(404)
            self.send_header("X-Error-Code", "EntryNotFound")
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        start = int(wish.removeprefix("bytes=").partition("-")[0]) if wish else 0
        self.send_response(206 if wish else 200)
        sha256 = self.server.stated.get(self.path, hashlib.sha256(content).hexdigest())
        self.send_header("ETag", f'"{sha256}"')
        self.send_header("X-Repo-Commit", COMMIT)
        if wish:
            self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
        self.send_header("Content-Length", str(len(content) - start))
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(content[start:])

    def log_message(self, format: str, *args: Any) -> None:
        """Be quiet."""


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    monkeypatch.setenv("PSDBENCH_WEIGHTS", str(tmp_path / "library"))
    for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    with Hub() as server:
        server.files = {"/o/r/resolve/main/config.json": CONFIG, "/o/r/resolve/main/unet/model.bin": MODEL}
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def entry(**changes: Any) -> Entry:
    files = (File("config.json"), File("unet/model.bin", len(MODEL), hashlib.sha256(MODEL).hexdigest()))
    source = Source(**{"files": files, "hub": "o/r", **changes})
    return Entry("thing", "metric", "MIT", 1, (source,))


def test_files_come_checked_and_noted(hub: Hub) -> None:
    said: list[str] = []
    assert fetch([entry()], said.append, hub.address) == {"thing": ["config.json", "unet/model.bin"]}
    here = weights.folder("thing")
    assert (here / "config.json").read_bytes() == CONFIG
    assert (here / "unet" / "model.bin").read_bytes() == MODEL
    receipt = weights.read_receipt(here)
    assert receipt["config.json"]["sha256"] == hashlib.sha256(CONFIG).hexdigest()
    assert receipt["unet/model.bin"]["origin"] == f"o/r@{COMMIT}"
    assert len(said) == 2
    assert not (weights.root() / PARTIAL / "thing").exists()


def test_a_second_time_nothing_is_asked(hub: Hub) -> None:
    fetch([entry()], str, hub.address)
    hub.asked.clear()
    assert fetch([entry()], str, hub.address) == {}
    assert hub.asked == []


def test_only_what_is_wrong_is_fetched_again(hub: Hub) -> None:
    fetch([entry()], str, hub.address)
    path = weights.folder("thing") / "config.json"
    path.write_bytes(b'{"hidden_size": 9}')  # as long as it was
    assert fetch([entry()], str, hub.address) == {"thing": ["config.json"]}
    assert path.read_bytes() == CONFIG


@pytest.mark.parametrize("fault", ["lock", "hub"])
def test_a_file_that_is_another_does_not_get_its_name(hub: Hub, fault: str) -> None:
    path = "/o/r/resolve/main/unet/model.bin" if fault == "lock" else "/o/r/resolve/main/config.json"
    if fault == "lock":
        hub.files[path] = MODEL[::-1]
    else:
        hub.stated[path] = "0" * 64
    with pytest.raises(EnvironmentProblem, match="has sha256") as caught:
        fetch([entry()], str, hub.address)
    assert caught.value.exit_code == 4
    assert not (weights.folder("thing") / path.partition("main/")[2]).exists()


def test_a_mirror_takes_over(hub: Hub) -> None:
    gone = entry(hub="gone/away", mirrors=("also/gone", f"o/r@{COMMIT}"))
    hub.files |= {path.replace("main", COMMIT): content for path, content in hub.files.items()}
    fetch([gone], str, hub.address)
    assert weights.read_receipt(weights.folder("thing"))["config.json"]["origin"] == f"o/r@{COMMIT}"


def test_what_nobody_has_any_more_is_said(hub: Hub) -> None:
    with pytest.raises(EnvironmentProblem, match=r"no longer in gone/away, also/gone"):
        fetch([entry(hub="gone/away", mirrors=("also/gone",))], str, hub.address)


def test_no_connection_is_one_line(hub: Hub) -> None:
    with pytest.raises(EnvironmentProblem, match="cannot be loaded from o/r") as caught:
        fetch([entry(url="http://127.0.0.1:9/x", hub="o/r")], str)
    assert "\n" not in str(caught.value)
    assert "run the same command again" in caught.value.remedy


@pytest.mark.parametrize("have", [0, 1000, len(MODEL)])
def test_an_interrupted_load_from_the_web_is_continued(hub: Hub, have: int) -> None:
    name = "a+b.pth"
    hub.files["/a%2Bb.pth"] = MODEL
    partial = weights.root() / PARTIAL / "thing" / name
    partial.parent.mkdir(parents=True)
    partial.write_bytes(MODEL[:have])
    file = File(name, len(MODEL), hashlib.sha256(MODEL).hexdigest())
    fetch([entry(files=(file,), hub="", url=hub.address)], str)
    assert (weights.folder("thing") / name).read_bytes() == MODEL
    assert [wish for _, _, wish in hub.asked] == [f"bytes={have}-" if have else ""]


def test_a_small_disk_is_found_before(hub: Hub) -> None:
    huge = Entry("thing", "metric", "MIT", 10**9, entry().sources)
    with pytest.raises(EnvironmentProblem, match="MB free"):
        fetch([huge], str, hub.address)
    assert hub.asked == []


def test_the_receipt_is_readable_by_people(hub: Hub) -> None:
    fetch([entry()], str, hub.address)
    content = json.loads((weights.folder("thing") / weights.RECEIPT).read_text())
    assert sorted(content) == ["config.json", "unet/model.bin"]
