"""Whatever happens to a file of a run folder is found: by the check of files, and by the run that goes on.

Seven kinds of damage to every kind of file, drawn at random. Afterwards nothing is trusted that is not what was
written, no number differs, and nothing but a CorruptResult is ever raised.
"""

from __future__ import annotations

import random
import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
from finished_jobs import SPEC, commit

from psdbench.config import JobSpec
from psdbench.errors import CorruptResult
from psdbench.foreign.ratings import Ratings, write_ratings
from psdbench.scorers.declared import VERSION
from psdbench.store.recover import recover
from psdbench.store.run import RUN_LOCK, job_folder, write_run
from psdbench.store.sealed import write_record
from psdbench.store.table import read_result, read_scores
from psdbench.validity import CONTROLS
from psdbench.verify import file_problems, record_problems

ORDER = ("optimize", "render", "score")
OTHER = JobSpec("a blue sphere", "sds", {"guidance_scale": 3.0}, 4, SPEC.protocol)
WRONG_TYPES = (b"[1, 2]", b"null", b"3", b'"text"', b"{}", b'{"files": 3}', b'{"values": [9.0]}', b"\xff\xfe")
SCORES = {"hps_shapes": {"sha256": "22", "higher_is_better": True, "values": [0.75, 1.5]}}
Damage = Callable[[Path, Path, random.Random], None]


def truncate(path: Path, other: Path, rng: random.Random) -> None:
    path.write_bytes(path.read_bytes()[: rng.randrange(path.stat().st_size)])


def flip(path: Path, other: Path, rng: random.Random) -> None:
    content = bytearray(path.read_bytes())
    content[rng.randrange(len(content))] ^= 1 << rng.randrange(8)
    path.write_bytes(content)


def empty(path: Path, other: Path, rng: random.Random) -> None:
    path.write_bytes(b"")


def another_type(path: Path, other: Path, rng: random.Random) -> None:
    path.write_bytes(rng.choice(WRONG_TYPES))


def swap(path: Path, other: Path, rng: random.Random) -> None:
    path.rename(path.with_name("aside"))
    other.rename(path)
    path.with_name("aside").rename(other)


def into_a_folder(path: Path, other: Path, rng: random.Random) -> None:
    path.unlink()
    path.mkdir()


def into_a_link(path: Path, other: Path, rng: random.Random) -> None:
    path.unlink()
    path.symlink_to(other)


DAMAGES: tuple[Damage, ...] = (truncate, flip, empty, another_type, swap, into_a_folder, into_a_link)


@pytest.fixture
def pristine(tmp_path: Path) -> Path:
    """A run with two finished jobs."""
    run = tmp_path / "pristine"
    commit(run)
    commit(run, OTHER, SCORES)
    write_run(run, {"versions": {"psdbench": "0.1.0"}, "machine": {"cores": 2}})
    write_ratings(run, Ratings(("quality",), {("sds", SPEC.prompt): (4.0,)}))
    means = {"good": 0.5, "blank": 0.25}
    entry = {"sha256": "11", "higher_is_better": True, "means": means, "missed": []}
    write_record(run / CONTROLS, {"version": VERSION, "good": "shapes", "metrics": {"hps_shapes": entry}})
    return run


def files_of(run: Path) -> dict[Path, bytes]:
    """All but the lock, which holds nothing."""
    files = (path for path in sorted(run.rglob("*")) if path.is_file() and path.name != RUN_LOCK)
    return {path.relative_to(run): path.read_bytes() for path in files}


def numbers(run: Path, spec: JobSpec) -> dict[str, dict[str, object]] | None:
    """The scores that a report would show; None where it tells of damage or of an unfinished job."""
    folder = job_folder(run, spec)
    try:
        _, manifest = read_result(folder)
        return read_scores(folder, manifest) if manifest else None
    except CorruptResult:
        return None


def mutate_and_check(pristine: Path, run: Path, rng: random.Random) -> str:
    """Damage one file, or swap two, in a copy of the run; the name of the damage."""
    shutil.copytree(pristine, run)
    original = files_of(run)
    name = rng.choice(sorted(original))
    other = rng.choice([o for o in sorted(original) if o.name != name.name or o.parent != name.parent])
    damage = rng.choice(DAMAGES)
    damage(run / name, run / other, rng)
    specs = (SPEC, OTHER)
    told = [problem for spec in specs for problem in file_problems(job_folder(run, spec))]
    told += record_problems(run)
    if files_of(run) != original or damage is into_a_link:
        assert told, f"{damage.__name__} of {name} with {other} was not found"
    for spec in specs:
        assert numbers(run, spec) in (None, numbers(pristine, spec)), (
            f"{damage.__name__} of {name} gives other numbers"
        )
        folder, notes = job_folder(run, spec), list[str]()
        trusted, manifest = recover(folder, spec, ORDER, notes.append)
        for file in trusted:
            assert (folder / file).read_bytes() == original[folder.relative_to(run) / file]
        assert manifest is None or set(trusted) == set(manifest.files)
    shutil.rmtree(run)
    return damage.__name__


@pytest.mark.parametrize("count", [60, pytest.param(500, marks=pytest.mark.slow)])
def test_every_damage_is_found(pristine: Path, tmp_path: Path, count: int) -> None:
    rng = random.Random(count)
    done = Counter(mutate_and_check(pristine, tmp_path / "run", rng) for _ in range(count))
    print(f"{done.total()} damages, all found: {dict(done)}")
    assert done.keys() == {damage.__name__ for damage in DAMAGES}
