"""Controls: every metric of the embedded world ranks them as it declares, and one that does not is found out."""

from __future__ import annotations

from dataclasses import replace
from itertools import islice

import pytest
import torch

from psdbench.scorers import load_scorer
from psdbench.scorers.catalogue import SCORERS
from psdbench.scorers.controls import controls_of, judge, world_controls
from psdbench.scorers.declared import CLAIMS, FAULTS, GOOD, sees
from psdbench.scorers.floaters import Floaters


@pytest.fixture(scope="module")
def controls() -> list[dict]:
    """Those of one object; `slow` tries all."""
    return list(islice(world_controls(), 1))


def test_every_metric_declares_faults_that_exist() -> None:
    assert {fault for claim in CLAIMS.values() for fault in claim.sees} == FAULTS.keys()
    assert all(claim.blind or len(claim.sees) == len(FAULTS) for claim in CLAIMS.values())
    assert all(sees(id) for id in SCORERS)
    assert sees("hps_v2.1") == sees("hps_shapes") == CLAIMS["hps"].sees
    assert sees("hpsomething") == ()


@pytest.mark.parametrize(
    "id",
    [
        "aesthetic_shapes",
        "hps_shapes",
        "clip_shapes",
        "image_reward_shapes",
        "ground_truth",
        "shape_accuracy",
        "outline",
    ],
)
def test_scorers_of_pictures_rank_the_controls(id: str, controls: list[dict]) -> None:
    outcome = judge(load_scorer(id), controls)
    assert outcome.valid, outcome
    assert outcome.means.keys() == {GOOD, *sees(id)}


@pytest.mark.parametrize("id", ["consistency", "janus_shapes", "coverage", "floaters", "true_preference"])
def test_scorers_of_assets_rank_the_controls(id: str, controls: list[dict]) -> None:
    assert judge(load_scorer(id), controls).valid


@pytest.mark.slow
@pytest.mark.parametrize("id", [id for id, listing in SCORERS.items() if not listing.weights])
def test_all_controls_are_ranked(id: str) -> None:
    """With ``-s`` it prints every metric's mean score of the good assets and of those with each fault."""
    controls = list(world_controls())
    outcome = judge(load_scorer(id), controls)
    means = ", ".join(
        f"{name} {'none' if mean is None else f'{mean:.3f}'}" for name, mean in outcome.means.items()
    )
    print(f"\n{id}, {len(controls)} objects: {means}; missed: {', '.join(outcome.missed) or 'none'}")
    assert outcome.valid


def test_a_metric_that_sees_nothing_or_the_contrary_is_not_valid(controls: list[dict]) -> None:
    class Reversed(Floaters):
        higher_is_better = True

    outcome = judge(Reversed("floaters"), controls)
    assert (outcome.valid, outcome.missed) == (False, ("specks",))

    class Blind(Floaters):
        def score_asset(self, views):
            return torch.full((len(views),), 0.5)

    assert judge(Blind("floaters"), controls).missed == ("specks",)


def test_no_score_for_a_fault_is_as_good_as_a_low_one_but_the_good_asset_needs_one(
    controls: list[dict],
) -> None:
    class Silent(Floaters):
        def score_asset(self, views):
            scores = super().score_asset(views)
            return scores if float(scores.sum()) == 0 else scores * torch.nan

    outcome = judge(Silent("floaters"), controls)
    assert outcome.valid
    assert outcome.means["specks"] is None

    class Mute(Floaters):
        def score_asset(self, views):
            return torch.full((len(views),), torch.nan)

    assert not judge(Mute("floaters"), controls).valid


def test_faults_are_what_their_names_say(controls: list[dict]) -> None:
    made = controls[0]
    good = made[GOOD]
    assert made.keys() == {GOOD, *FAULTS}
    assert made["blank"].images.min() == 1
    assert made["blank"].opacity.max() == 0
    assert made["wrong_prompt"].prompt != good.prompt
    assert torch.equal(made["wrong_prompt"].images, good.images)
    assert not torch.equal(made["shuffled"].images, good.images)
    assert torch.equal(made["shuffled"].depth, good.depth)
    assert made["fog"].opacity.max() == 0.5
    assert made["specks"].opacity.sum() > good.opacity.sum()
    assert ((made["specks"].images - good.images).abs().amax(1) > 0.1).any()
    again = controls_of(good, "x")
    assert all(torch.equal(again[name].images, made[name].images) for name in again if name != "two_faced")


def test_controls_of_an_asset_of_which_nobody_knows_the_truth(controls: list[dict]) -> None:
    good = controls[0][GOOD]
    made = controls_of(good, "another")
    turned = made["two_faced"]
    assert torch.equal(turned.images[4], good.images[0])  # the front, seen from behind
    assert torch.equal(turned.images[3], good.images[7])
    assert torch.equal(turned.images[:3], good.images[:3])
    bare = controls_of(replace(good, opacity=None, depth=None, cameras=None), "another")
    assert bare.keys() == {GOOD, "blank", "noise", "blurred", "wrong_prompt", "shuffled"}
    assert judge(load_scorer("janus_shapes"), [made]).valid
