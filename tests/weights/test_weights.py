"""The list of weights: complete, honest about what is here, and one command away from what is not."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from psdbench import registry, weights
from psdbench.cli.prefetch import needed_weights
from psdbench.errors import EnvironmentProblem
from psdbench.scorers import SCORERS
from psdbench.scorers.official import OFFICIAL, SHORT


@pytest.fixture
def library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PSDBENCH_WEIGHTS", str(tmp_path / "library"))
    return tmp_path / "library"


def put(name: str, without: str = "") -> list[Path]:
    """Files of no content for every file of an entry that has no public size."""
    paths = [
        weights.folder(name) / file.name for file in weights.catalogue()[name].files if file.name != without
    ]
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")
    return paths


def test_the_lock_has_every_official_scorer_and_every_named_prior() -> None:
    entries = weights.catalogue()
    official = {id: listing.weights for id, listing in SCORERS.items() if listing.weights}
    assert {name for name, entry in entries.items() if entry.kind == "metric"} == set(official.values())
    assert official.keys() == OFFICIAL.keys()
    assert {name for name, entry in entries.items() if entry.kind == "prior"} == set(registry.PRIORS) - {
        "shapes"
    }
    assert set(SHORT.values()) <= official.keys()
    for id, settings in OFFICIAL.items():
        assert settings["weights"] in {file.name for file in entries[official[id]].files}


@pytest.mark.parametrize("entry", weights.catalogue().values(), ids=lambda entry: entry.name)
def test_an_entry_is_well_formed(entry: weights.Entry) -> None:
    assert entry.licence
    assert entry.megabytes > 0
    assert set(entry.needs) <= weights.catalogue().keys()
    for source in entry.sources:
        assert bool(source.hub) != bool(source.url)
        assert source.files
        if source.hub:
            assert source.hub.count("/") == 1
            assert len(source.revision) == 40  # pinned to a commit
        else:
            assert source.url.startswith("https://")
    for file in entry.files:
        assert not Path(file.name).is_absolute()
        assert ".." not in file.name
        assert len(file.sha256) in (0, 64)
    assert len({file.name for file in entry.files}) == len(entry.files)
    assert sum(file.bytes for file in entry.files) <= entry.megabytes * 1e6


def test_the_folder_is_a_variable_or_in_the_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PSDBENCH_WEIGHTS", "~/models")
    assert weights.root() == Path.home() / "models"
    monkeypatch.setenv("PSDBENCH_WEIGHTS", "")
    assert weights.root() == Path.home() / ".cache" / "psdbench"


def test_what_is_missing_is_named_with_one_command(library: Path) -> None:
    with pytest.raises(EnvironmentProblem) as caught:
        weights.require(["sd15", "hps_v2.1", "image_reward_v1.0", "hps_shapes"])
    for name in ("sd15", "hps_v2.1", "image_reward_v1.0"):
        for file in weights.catalogue()[name].files:
            assert f"{library / name / file.name} is missing" in str(caught.value)
    assert caught.value.remedy == "psdbench prefetch --prior sd15 --metrics hps_v2.1,image_reward_v1.0"


def test_what_another_needs_is_needed_too(library: Path) -> None:
    with pytest.raises(EnvironmentProblem, match="clip_vit_l14") as caught:
        weights.require(["aesthetic_laion_v2"])
    assert caught.value.remedy == "psdbench prefetch --metrics clip_vit_l14,aesthetic_laion_v2"


def test_files_put_there_by_hand_count(library: Path) -> None:
    put("hps_v2.0", without="merges.txt")
    entry = weights.catalogue()["hps_v2.0"]
    assert weights.problems(entry) == {library / "hps_v2.0" / "merges.txt": "is missing"}
    put("hps_v2.0")
    weights.require(["hps_v2.0"])


def test_a_public_size_is_checked(library: Path) -> None:
    put("hps_v2.1")
    found = weights.problems(weights.catalogue()["hps_v2.1"])
    path = library / "hps_v2.1" / "HPS_v2.1_compressed.pt"
    assert found == {path: "has 1 bytes instead of 1972490005"}
    with pytest.raises(EnvironmentProblem, match="bytes instead of 1972490005"):
        weights.verify(path)


def test_what_was_fetched_must_stay_as_it_came(library: Path) -> None:
    path = put("hps_v2.0")[0]
    note = {"bytes": 1, "sha256": weights.file_sha256(path), "origin": "here"}
    (library / "hps_v2.0" / weights.RECEIPT).write_text(json.dumps({path.name: note}))
    weights.verify(path)
    path.write_bytes(b"y")
    os.utime(path, (1, 1))  # the same size: only the hash tells
    entry = weights.catalogue()["hps_v2.0"]
    assert weights.problems(entry) == {}
    assert list(weights.problems(entry, thorough=True)) == [path]
    with pytest.raises(EnvironmentProblem, match="has not the sha256"):
        weights.verify(path)


def test_files_elsewhere_are_the_users_own(library: Path, tmp_path: Path) -> None:
    weights.verify(tmp_path / "HPS_v2.1_compressed.pt")
    assert weights.remedy_for(tmp_path / "HPS_v2.1_compressed.pt") == ""


@pytest.mark.parametrize("content", ["{", "[]", '{"x": 1}'])
def test_a_broken_receipt_is_named(library: Path, content: str) -> None:
    put("hps_v2.0")
    (library / "hps_v2.0" / weights.RECEIPT).write_text(content)
    with pytest.raises(EnvironmentProblem, match=weights.RECEIPT):
        weights.problems(weights.catalogue()["hps_v2.0"])


def test_names_of_priors_lead_to_the_library(library: Path) -> None:
    with pytest.raises(EnvironmentProblem, match=r"unet/config\.json is missing") as caught:
        registry.prior_folder("sd15")
    assert caught.value.remedy == "psdbench prefetch --prior sd15"


def test_short_names_need_the_official_weights_only_with_a_real_prior() -> None:
    assert needed_weights("shapes", ["hps", "clip"]) == []
    assert needed_weights("sd15", ["hps", "pickscore"]) == ["sd15", "hps_v2.1", "pickscore_v1"]
    assert needed_weights(None, ["hps_v2.0", "hps_shapes"]) == ["hps_v2.0"]
