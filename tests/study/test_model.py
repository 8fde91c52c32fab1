"""Bradley-Terry against its closed form, its simulated truth and its degenerate cases; Krippendorff's own example."""

from __future__ import annotations

from math import log

import numpy as np
import pytest

from psdbench.study.items import Item
from psdbench.study.model import bradley_terry, krippendorff, strengths
from psdbench.study.votes import Vote


def votes_of(rng: np.random.Generator, truth: dict[str, float], prompts: int, raters: int) -> list[Vote]:
    """Every rater votes once on every pair and prompt, by Bradley and Terry's own rule."""
    found = []
    methods = sorted(truth)
    for p in range(prompts):
        for i, a in enumerate(methods):
            for b in methods[i + 1 :]:
                item = Item(f"{p}{a}{b}", f"prompt {p}", 0, a, b)
                for rater in range(raters):
                    first = rng.random() < 1 / (1 + np.exp(truth[b] - truth[a]))
                    found.append(Vote(f"r{rater}", item, "a" if first else "b"))
    return found


def test_two_methods_have_the_odds_of_their_wins() -> None:
    wins = np.array([[[0.0, 300.0], [100.0, 0.0]]])
    found = strengths(wins)[0]
    assert found[0] - found[1] == pytest.approx(log(3), abs=2e-3)
    assert found.sum() == pytest.approx(0, abs=1e-12)


def test_strengths_are_recovered_and_intervals_hold_them() -> None:
    truth = {"a": 0.9, "b": 0.3, "c": -0.2, "d": -1.0}
    rng = np.random.default_rng(0)
    held = []
    for _ in range(12):
        found = bradley_terry(votes_of(rng, truth, 24, 6)).strength
        assert all(value.low is not None and value.high is not None for value in found.values())
        held += [(v.low or 0) <= truth[m] <= (v.high or 0) for m, v in found.items()]
    assert np.mean(held) >= 0.85
    assert list(found) == ["a", "b", "c", "d"]


def test_a_method_that_never_loses_stays_finite() -> None:
    item = Item("1", "p", 0, "a", "b")
    found = bradley_terry([Vote("r", item, "a")] * 3 + [Vote("r", Item("2", "q", 0, "a", "b"), "a")] * 3)
    assert found.strength["a"].mean is not None
    assert 0.5 < found.strength["a"].mean < 5


def test_ties_alone_make_equals_and_one_prompt_no_interval() -> None:
    found = bradley_terry([Vote("r", Item("1", "p", 0, "a", "b"), "tie")] * 4).strength
    assert found["a"].mean == pytest.approx(0, abs=1e-9)
    assert (found["a"].low, found["a"].note) == (None, "one prompt alone")


def test_krippendorffs_alpha_by_hand() -> None:
    table = [("a", "a"), ("a", "a"), ("b", "b"), ("a", "b")]
    votes = [
        Vote(f"r{j}", Item(str(i), "p", 0, "x", "y"), choice)  # type: ignore[arg-type]
        for i, row in enumerate(table)
        for j, choice in enumerate(row)
    ]
    found = krippendorff(votes)
    assert found is not None
    # n = 8, n_a = 5, n_b = 3: observed 2 of 8, expected 2·5·3 / 7 of 8
    assert found.mean == pytest.approx(1 - 7 * 2 / (2 * 5 * 3))
    assert (found.n, found.prompts) == (8, 4)


def test_agreement_is_one_for_twins_zero_for_chance_and_unknown_for_one() -> None:
    rng = np.random.default_rng(1)
    items = [Item(str(i), "p", 0, "x", "y") for i in range(400)]
    answers = rng.choice(["a", "b", "tie"], size=(400, 3))
    twins = [
        Vote(rater, item, row[0]) for item, row in zip(items, answers, strict=True) for rater in ("r", "s")
    ]
    strangers = [
        Vote(f"r{j}", item, row[j]) for item, row in zip(items, answers, strict=True) for j in range(3)
    ]
    one, none = krippendorff(twins), krippendorff(strangers)
    assert one is not None
    assert one.mean == 1
    assert none is not None
    assert none.low is not None
    assert none.high is not None
    assert none.low < 0 < none.high
    assert krippendorff(strangers[::3]) is None
    alike = krippendorff([Vote(r, item, "a") for item in items[:3] for r in ("r", "s")])
    assert alike is not None
    assert (alike.mean, alike.note) == (None, "all votes alike")
