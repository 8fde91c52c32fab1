"""Metrics by name: short ones, those of a run that names none, and the weights that they need."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from psdbench import weights
from psdbench.errors import EnvironmentProblem, UsageError
from psdbench.metrics import default_metrics, left_out, metric_id, require_weights, scorer_ref, weights_of

FREE = ["consistency", "coverage", "floaters"]


@pytest.fixture(autouse=True)
def library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty place for weights."""
    monkeypatch.setenv("PSDBENCH_WEIGHTS", str(tmp_path))
    return tmp_path


def test_short_metric_names_take_the_family_of_the_prior() -> None:
    shorts = ["hps", "clip", "aesthetic", "image_reward"]
    assert [metric_id(name, "shapes") for name in shorts] == [f"{name}_shapes" for name in shorts]
    assert metric_id("hps_shapes", "sd15") == "hps_shapes"
    assert metric_id("true_preference", "shapes") == "true_preference"
    official = ["hps_v2.1", "clip_vit_l14", "aesthetic_laion_v2", "image_reward_v1.0"]
    assert [metric_id(name, "sd15") for name in shorts] == official
    assert metric_id("pickscore", "shapes") == "pickscore_v1"
    assert metric_id("janus", "sd15") == "janus_clip_vit_l14"
    with pytest.raises(UsageError, match="unknown metric 'hsp'") as caught:
        metric_id("hsp", "shapes")
    assert "did you mean 'hps" in caught.value.remedy


def test_default_metrics_of_the_world() -> None:
    embedded = {f"{name}_shapes" for name in ("hps", "clip", "aesthetic", "image_reward")}
    truths = {"true_preference", "shape_accuracy", "ground_truth", "outline"}
    assets = {"consistency", "janus_shapes", "coverage", "floaters"}
    assert set(default_metrics("shapes")) == embedded | truths | assets


def test_another_prior_has_the_weight_free_metrics_and_the_official_ones_that_are_here(library: Path) -> None:
    official = [metric_id(name, "sd15") for name in ("aesthetic", "image_reward", "hps", "clip", "pickscore")]
    assert default_metrics("sd15") == FREE
    assert left_out("sd15") == [*official, "janus_clip_vit_l14"]
    assert left_out("shapes") == []
    for file in weights.catalogue()["clip_vit_l14"].files:
        path = library / "clip_vit_l14" / file.name
        path.parent.mkdir(exist_ok=True)
        with path.open("wb") as empty:
            empty.truncate(file.bytes)  # a hole of the right size: nothing is read before it is used
    assert default_metrics("sd15") == ["clip_vit_l14", "janus_clip_vit_l14", *FREE]
    assert left_out("sd15") == [*official[:3], official[4]]


def test_weights_are_named_once() -> None:
    both = ["clip_vit_l14", "janus_clip_vit_l14"]
    assert weights_of([*both, "coverage", "hps_shapes"]) == ["clip_vit_l14"]
    with pytest.raises(EnvironmentProblem, match="is missing") as caught:
        require_weights(both)
    assert caught.value.remedy == "psdbench prefetch --metrics clip_vit_l14"
    require_weights(["coverage", "hps_shapes"])


def test_what_judges_all_views_together_cannot_steer() -> None:
    assert len(scorer_ref("hps_shapes").sha256) == 64
    with pytest.raises(UsageError, match="'coverage' judges all views"):
        scorer_ref("coverage")


def test_names_need_no_torch() -> None:
    code = (
        "import sys; from psdbench.metrics import *; metric_id('hps', 'shapes'); default_metrics('sd15');"
        "print('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
