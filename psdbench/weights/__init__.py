"""Weights that are not shipped: which files a real prior or an official scorer needs, and whether they are here.

`weights.lock` lists them; they lie under ``$PSDBENCH_WEIGHTS`` (``~/.cache/psdbench``), one folder per name.
This module never uses a network: `psdbench.weights.fetch` does, for the command ``psdbench prefetch`` alone.
"""

from __future__ import annotations

import json
import os
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache, lru_cache
from pathlib import Path
from typing import Any, Literal

from psdbench import strict
from psdbench.errors import EnvironmentProblem
from psdbench.store.digest import sha256_file

LOCK = Path(__file__).with_name("weights.lock")
RECEIPT = ".fetched"
"""JSON in a fetched folder: of each file its sha256, its size and where it came from"""


@dataclass(frozen=True)
class File:
    """A file of a folder of weights; `bytes` 0 and `sha256` empty where they are not public."""

    name: str
    bytes: int = 0
    sha256: str = ""


@dataclass(frozen=True)
class Source:
    """Where files come from: a repository of the hub with its mirrors, or a folder of the web."""

    files: tuple[File, ...]
    hub: str = ""
    revision: str = "main"
    mirrors: tuple[str, ...] = ()
    url: str = ""


@dataclass(frozen=True)
class Entry:
    """A folder of weights."""

    name: str
    kind: Literal["prior", "metric"]
    licence: str
    megabytes: int
    """on the disk, about"""
    sources: tuple[Source, ...]
    needs: tuple[str, ...] = ()
    """other entries that it does not work without"""

    @property
    def files(self) -> list[File]:
        """Its own files, of all sources."""
        return [file for source in self.sources for file in source.files]


@cache
def catalogue(lock: Path = LOCK) -> Mapping[str, Entry]:
    """All entries of a lock file by name; UsageError that names what is wrong with it."""
    data = tomllib.loads(lock.read_text(encoding="utf-8"))
    return {
        name: strict.build(Entry, {"name": name, "kind": kind, **facts}, f"{lock.name}: {name}")
        for kind, entries in data.items()
        for name, facts in entries.items()
    }


def root() -> Path:
    """The folder of all fetched weights."""
    return Path(os.environ.get("PSDBENCH_WEIGHTS") or "~/.cache/psdbench").expanduser()


def folder(name: str) -> Path:
    """Where the weights of an entry belong."""
    return root() / name


def with_needs(names: Iterable[str]) -> list[Entry]:
    """The entries of these names that the lock file has, each after those it needs."""
    found: dict[str, Entry] = {}
    for name in names:
        if entry := catalogue().get(name):
            found |= {each.name: each for each in with_needs(entry.needs)}
            found[name] = entry
    return list(found.values())


def problems(entry: Entry, thorough: bool = False) -> dict[Path, str]:
    """What is wrong with the files of an entry, by path: ``is missing``, a wrong size or, if thorough, hash.

    A file without a known size and hash is believed when it is there.
    """
    here, receipt = folder(entry.name), read_receipt(folder(entry.name))
    wrong: dict[Path, str] = {}
    for file in entry.files:
        path, noted = here / file.name, receipt.get(file.name, {})
        size, sha256 = file.bytes or noted.get("bytes", 0), file.sha256 or noted.get("sha256", "")
        if not path.is_file():
            wrong[path] = "is missing"
        elif size and path.stat().st_size != size:
            wrong[path] = f"has {path.stat().st_size} bytes instead of {size}"
        elif thorough and sha256 and file_sha256(path) != sha256:
            wrong[path] = f"has not the sha256 {sha256}"
    return wrong


def verify(path: Path) -> None:
    """Raise EnvironmentProblem where a file of the catalogue has not the size or hash it should have."""
    try:
        name, *rest = path.resolve().relative_to(root().resolve()).parts
    except ValueError:  # lies elsewhere: a file of the user's own
        return
    if entry := catalogue().get(name):
        for wrong, what in problems(entry, thorough=False).items():
            if wrong == folder(name).joinpath(*rest):
                raise EnvironmentProblem(f"{path} {what}", f"delete it, then: {fetch_command([entry])}")
        file = next((file for file in entry.files if file.name == "/".join(rest)), File(""))
        expected = file.sha256 or read_receipt(folder(name)).get(file.name, {}).get("sha256", "")
        if expected and file_sha256(path) != expected:
            remedy = f"delete it, then: {fetch_command([entry])}"
            raise EnvironmentProblem(f"{path} has not the sha256 {expected}", remedy)


def require(names: Iterable[str]) -> None:
    """Raise EnvironmentProblem that names every file missing for these entries and the command that gets them."""
    broken = {entry.name: found for entry in with_needs(names) if (found := problems(entry))}
    if broken:
        listing = "; ".join(f"{path} {what}" for found in broken.values() for path, what in found.items())
        raise EnvironmentProblem(listing, fetch_command(catalogue()[name] for name in broken))


def remedy_for(path: Path) -> str:
    """The command that fetches the entry to whose folder a path belongs; empty where there is none."""
    for part in (path, *path.parents):
        if part.parent == root() and part.name in catalogue():
            return fetch_command([catalogue()[part.name]])
    return ""


def fetch_command(entries: Iterable[Entry]) -> str:
    """``psdbench prefetch --prior sd15 --metrics hps_v2.1,image_reward_v1.0``; there is at most one prior."""
    wanted = list(entries)
    options = {
        option: ",".join(entry.name for entry in wanted if entry.kind == option)
        for option in ("prior", "metric")
    }
    given = {"--prior": options["prior"], "--metrics": options["metric"]}
    return " ".join(["psdbench prefetch", *(f"{flag} {names}" for flag, names in given.items() if names)])


def read_receipt(where: Path) -> dict[str, dict[str, Any]]:
    """What prefetch noted about the files of a folder; empty where it did not bring them."""
    try:
        content = json.loads((where / RECEIPT).read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise EnvironmentProblem(f"{where / RECEIPT} cannot be read: {error}", "delete it") from error
    good = isinstance(content, dict) and all(isinstance(value, dict) for value in content.values())
    if not good:
        raise EnvironmentProblem(f"{where / RECEIPT} is not what prefetch writes", "delete it")
    return content


def file_sha256(path: Path) -> str:
    """sha256 of a file, computed once as long as size and time of change stay the same."""
    facts = path.stat()
    return _hashed(str(path), facts.st_size, facts.st_mtime_ns)


@lru_cache(maxsize=256)
def _hashed(path: str, size: int, changed: int) -> str:
    return sha256_file(Path(path))
