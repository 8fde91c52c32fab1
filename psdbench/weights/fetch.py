"""Fetching weights: the one place of psdbench that uses a network.

A file is loaded into ``.partial`` beside the folders of weights, where an interrupted load is continued, hashed
there, and moved to its place only when it is what it should be. So a file that has its name is complete.
"""

from __future__ import annotations

import os
import shutil
import urllib.error
import urllib.request
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple
from urllib.parse import quote

from psdbench import weights
from psdbench.errors import EnvironmentProblem
from psdbench.store import atomic
from psdbench.store.digest import sha256_file
from psdbench.weights import Entry, File, Source

PARTIAL = ".partial"
SPARE_MB = 200
AGAIN = "check the connection, then run the same command again: it continues where it stopped"
Say = Callable[[str], None]


class Loaded(NamedTuple):
    """A file in the partial folder, and what its origin says of it."""

    path: Path
    origin: str
    sha256: str = ""
    bytes: int = 0


def fetch(entries: Iterable[Entry], say: Say, endpoint: str | None = None) -> dict[str, list[str]]:
    """Bring every file that is missing or wrong; the names of the files brought, by entry.

    `endpoint` stands for the hub's address. Raises EnvironmentProblem when the disk is too small, the network
    fails, an origin refuses, or a file is not the one of the lock.
    """
    wanted = {entry.name: entry for entry in entries if weights.problems(entry, thorough=True)}
    _check_space(wanted.values())
    return {name: _fetch_entry(entry, say, endpoint) for name, entry in wanted.items()}


def _fetch_entry(entry: Entry, say: Say, endpoint: str | None) -> list[str]:
    here, partial = weights.folder(entry.name), weights.root() / PARTIAL / entry.name
    wrong, brought = weights.problems(entry, thorough=True), []
    for source in entry.sources:
        for file in source.files:
            if here / file.name not in wrong:
                continue
            size = f" ({file.bytes / 1e6:.0f} MB)" if file.bytes else ""
            say(f"{entry.name}: {file.name}{size} from {source.hub or source.url}")
            with _explained(file, source):
                loaded = _load(file, source, partial, endpoint)
                _accept(file, loaded, here)
            brought.append(file.name)
    shutil.rmtree(partial, ignore_errors=True)
    return brought


def _accept(file: File, loaded: Loaded, here: Path) -> None:
    """Hash a loaded file, move it to its place and note it; a wrong one is removed."""
    size, sha256 = loaded.path.stat().st_size, sha256_file(loaded.path)
    for what, expected, found in (
        ("bytes", file.bytes or loaded.bytes, size),
        ("sha256", file.sha256 or loaded.sha256, sha256),
    ):
        if expected and expected != found:
            loaded.path.unlink()
            raise EnvironmentProblem(
                f"{file.name} from {loaded.origin} has {what} {found} instead of {expected}",
                "run the same command again; if it stays so, the origin has changed: use a mirror",
            )
    target = here / file.name
    target.parent.mkdir(parents=True, exist_ok=True)
    os.replace(loaded.path, target)
    note = {"sha256": sha256, "bytes": size, "origin": loaded.origin}
    atomic.write_json(here / weights.RECEIPT, {**weights.read_receipt(here), file.name: note})


def _load(file: File, source: Source, partial: Path, endpoint: str | None) -> Loaded:
    partial.mkdir(parents=True, exist_ok=True)
    if source.url:
        return _from_web(f"{source.url}/{quote(file.name)}", partial / file.name)
    from huggingface_hub.errors import (
        EntryNotFoundError,
        GatedRepoError,
        LocalEntryNotFoundError,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    places = [(source.hub, source.revision), *(_place(mirror) for mirror in source.mirrors)]
    for hub, revision in places:
        try:
            return _from_hub(hub, revision, file.name, partial, endpoint)
        except (GatedRepoError, LocalEntryNotFoundError):
            raise  # asks for consent, or the connection was lost: not for a mirror to mend
        except (EntryNotFoundError, RepositoryNotFoundError, RevisionNotFoundError):
            continue
    raise EnvironmentProblem(
        f"{file.name} is no longer in {', '.join(hub for hub, _ in places)}",
        "get the folder elsewhere and put it there by hand, or pass its path with --prior",
    )


def _place(mirror: str) -> tuple[str, str]:
    hub, _, revision = mirror.partition("@")
    return hub, revision or "main"


def _from_hub(hub: str, revision: str, name: str, partial: Path, endpoint: str | None) -> Loaded:
    from huggingface_hub import get_hf_file_metadata, hf_hub_download, hf_hub_url

    stated = get_hf_file_metadata(hf_hub_url(hub, name, revision=revision, endpoint=endpoint))
    path = hf_hub_download(hub, name, revision=revision, local_dir=partial, endpoint=endpoint)
    tag = stated.etag or ""
    known = tag if len(tag) == 64 else ""  # of a large file the tag is its sha256, of a small one git's own
    return Loaded(Path(path), f"{hub}@{stated.commit_hash or revision}", known, stated.size or 0)


def _from_web(url: str, path: Path) -> Loaded:
    have = path.stat().st_size if path.exists() else 0
    request = urllib.request.Request(url, headers={"Range": f"bytes={have}-"} if have else {})
    try:
        with (
            urllib.request.urlopen(request, timeout=60) as answer,
            path.open("ab" if answer.status == 206 else "wb") as file,
        ):
            shutil.copyfileobj(answer, file)
    except urllib.error.HTTPError as error:
        if error.code != 416:  # nothing is left to load: the hash decides
            raise
    return Loaded(path, url)


def _check_space(entries: Iterable[Entry]) -> None:
    root = weights.root()
    root.mkdir(parents=True, exist_ok=True)
    needed, free = sum(entry.megabytes for entry in entries), shutil.disk_usage(root).free // 10**6
    if needed and free < needed + SPARE_MB:
        raise EnvironmentProblem(
            f"{root} has {free} MB free, about {needed + SPARE_MB} are needed",
            "free some, or set PSDBENCH_WEIGHTS to a folder on a larger disk",
        )


@contextmanager
def _explained(file: File, source: Source) -> Iterator[None]:
    """Errors of network, hub and disk as EnvironmentProblem."""
    from huggingface_hub.errors import GatedRepoError, HfHubHTTPError

    # the errors of whichever HTTP library this version of huggingface_hub is built on
    http_error: type[Exception] = next(
        base for base in HfHubHTTPError.__mro__ if base.__name__ == "HTTPError"
    )
    where = source.hub or source.url
    try:
        yield
    except EnvironmentProblem:
        raise
    except GatedRepoError as error:
        raise EnvironmentProblem(
            f"{where} asks for consent to its licence",
            f"agree on https://huggingface.co/{where} and log in with `hf auth login`",
        ) from error
    except (http_error, OSError, ValueError) as error:
        reason = str(error).splitlines()[0][:200] if str(error) else type(error).__name__
        raise EnvironmentProblem(f"{file.name} cannot be loaded from {where}: {reason}", AGAIN) from error
