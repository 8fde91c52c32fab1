"""What the metrics of a report are worth: how they rank the controls, and how far they agree with people."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from psdbench.errors import CorruptResult
from psdbench.foreign.ratings import Ratings, stored_ratings
from psdbench.report.agreement import Agreement, agreement
from psdbench.report.blocks import Cell, Line, Table, estimated, words
from psdbench.report.results import ELSEWHERE, FINISHED, MAJORITY, Result
from psdbench.report.text import MISSING, count, enumeration, number
from psdbench.report.verdict import TRUTH
from psdbench.scorers.declared import FAULTS, GOOD, Outcome, sees
from psdbench.stats import SEED
from psdbench.store.table import RENDERS
from psdbench.validity import read_controls

MOST = 4000
"""items of which a rank correlation is made; of more, so many are drawn, always the same"""


@dataclass(frozen=True)
class Item:
    """A view, or an asset with its mean over views: what people think of it and what a metric says."""

    prompt: str
    people: float
    metric: float


@dataclass(frozen=True)
class Validity:
    """By metric: its controls, and by (metric, people, unit) its agreement with them."""

    controls: dict[str, Outcome] = field(default_factory=dict)
    agreements: dict[tuple[str, str, str], Agreement] = field(default_factory=dict)
    damaged: tuple[str, ...] = ()
    """files that could not be read"""

    def missed(self, metric: str) -> tuple[str, ...]:
        """The faults that a metric should have ranked below the good asset and did not."""
        return self.controls[metric].missed if metric in self.controls else ()


def assess(runs: Sequence[Path], results: Sequence[Result]) -> Validity:
    """The controls and ratings in the run folders, against the scores of the results.

    Controls of other weights than those of the scores say nothing of them and are left out. A metric that fails
    in one of several runs has failed.
    """
    weights = {id: score.sha256 for result in results for id, score in result.scores.items()}
    controls: dict[str, Outcome] = {}
    rated: list[Ratings] = []
    damaged = []
    for run in runs:
        try:
            for id, (sha256, outcome) in read_controls(run).items():
                if weights.get(id) == sha256 and (id not in controls or outcome.missed):
                    controls[id] = outcome
        except CorruptResult as error:
            damaged.append(str(error))
        try:
            rated += [ratings] if (ratings := stored_ratings(run)) else []
        except CorruptResult as error:
            damaged.append(str(error))
    return Validity(controls, dict(_agreements(results, rated)), tuple(damaged))


def _agreements(
    results: Sequence[Result], rated: Sequence[Ratings]
) -> Iterator[tuple[tuple[str, str, str], Agreement]]:
    """With the true preference per view and per asset, with each dimension of ratings per asset."""
    metrics = dict.fromkeys(id for result in results for id in result.scores)
    for metric in (id for id in metrics if id not in (TRUTH, MAJORITY)):
        sets = {
            (TRUTH, "view"): [item for result in results for item in _views(result, metric)],
            (TRUTH, "asset"): [item for result in results for item in _asset(result, metric)],
        }
        for ratings in rated:
            for place, dimension in enumerate(ratings.dimensions):
                items = [item for result in results for item in _rated(result, metric, ratings, place)]
                sets.setdefault((dimension, "asset"), []).extend(items)
        for (people, unit), items in sets.items():
            if found := _agreement(items):
                yield (metric, people, unit), found


def _agreement(items: Sequence[Item]) -> Agreement | None:
    if len(items) > MOST:
        chosen = np.random.default_rng(SEED).permutation(len(items))[:MOST]
        items = [items[i] for i in chosen]
    return agreement([i.people for i in items], [i.metric for i in items], [i.prompt for i in items])


def _views(result: Result, metric: str) -> list[Item]:
    """The views of which both have a score."""
    if not {metric, TRUTH} <= result.scores.keys():
        return []
    sign = 1 if result.scores[metric].higher_is_better else -1
    pairs = zip(result.scores[TRUTH].values, result.scores[metric].values, strict=False)
    return [
        Item(result.spec.prompt, truth, sign * value)
        for truth, value in pairs
        if truth is not None and value is not None
    ]


def _asset(result: Result, metric: str) -> list[Item]:
    people = result.scores[TRUTH].mean if TRUTH in result.scores else None
    return _item(result, metric, people)


def _rated(result: Result, metric: str, ratings: Ratings, place: int) -> list[Item]:
    """An asset of renders made elsewhere that people have rated; its seed is not told apart."""
    values = ratings.scores.get((result.spec.method, result.spec.prompt)) if result.foreign else None
    return _item(result, metric, values[place] if values else None)


def _item(result: Result, metric: str, people: float | None) -> list[Item]:
    score = result.scores.get(metric)
    if people is None or score is None or score.mean is None:
        return []
    return [Item(result.spec.prompt, people, score.mean if score.higher_is_better else -score.mean)]


def warnings(validity: Validity, results: Sequence[Result]) -> list[Line]:
    """What a reader must know before any number."""
    lines = [
        Line(
            f"is not valid in these runs (✗): it does not rank {_words(outcome.missed)} below "
            "the good asset of the controls.",
            id,
        )
        for id, outcome in validity.controls.items()
        if outcome.missed
    ]
    lost = [r for r in results if r.status == FINISHED and not (r.folder / RENDERS).is_dir()]
    if lost:
        lines.append(
            Line(
                f"{count(len(lost), 'finished job')} without renders: the scores count, for they are sealed, but there "
                "is nothing to see or to score again. The same psdbench run makes the renders anew."
            )
        )
    if any(result.foreign for result in results):
        lines.append(
            Line(
                f"{ELSEWHERE} optimizer not shared: renders made elsewhere, by another 3D optimizer, with other "
                "cameras and steps. A difference to them is one of systems, not of methods."
            )
        )
    return lines + [Line(f"Left out: {text}.") for text in validity.damaged]


def controls_table(validity: Validity) -> Table | None:
    """Metrics x controls: mean scores, those that were ranked wrongly set off."""
    if not validity.controls:
        return None
    asked = {fault for id in validity.controls for fault in sees(id)}
    columns = [GOOD, *(fault for fault in FAULTS if fault in asked)]
    rows = [
        [*words(id, "no ✗" if outcome.missed else "yes"), *(_cell(outcome, name) for name in columns)]
        for id, outcome in validity.controls.items()
    ]
    header = ["metric", "valid", *(name.replace("_", " ") for name in columns)]
    meanings = "; ".join(f"{name.replace('_', ' ')}: {FAULTS[name]}" for name in columns[1:])
    notes = (
        "A good asset and the same with one fault each, scored as the renders are. A metric must rank every fault "
        f"that it can see worse than the good one, for each asset; it was not asked of those without a number. "
        f"{meanings[:1].upper()}{meanings[1:]}."
    )
    return Table("Metric controls", header, rows, notes=[notes])


def _cell(outcome: Outcome, name: str) -> Cell:
    if name not in outcome.means:
        return Cell("")
    value = outcome.means[name]
    text = "no score" if value is None else number(value)
    return Cell(text, mark="told" if name in outcome.missed else "", sort=value)


def agreement_table(validity: Validity) -> Table | None:
    """Rank correlations of every metric with what people think, with intervals."""
    if not validity.agreements:
        return None
    rows = []
    for (metric, people, unit), found in validity.agreements.items():
        cells = [estimated(each) for each in (found.spearman, found.kendall, found.pairs)]
        rows.append([*words(metric, people, unit, str(found.spearman.n)), *cells])
    header = ["metric", "people", "unit", "n", "Spearman ρ", "Kendall τ", "pairs of a prompt"]
    notes = (
        "Over all items; the last column is the share of pairs of one prompt that the metric orders as people do, "
        f"where 0.5 is chance and {MISSING} means that there are none. 95 % intervals from a bootstrap over prompts."
    )
    formula = f" {TRUTH} is no person but the formula that simulated people follow."
    told = notes + formula if any(people == TRUTH for _, people, _ in validity.agreements) else notes
    return Table("Agreement with people", header, rows, left=3, notes=[told])


def _words(faults: Sequence[str]) -> str:
    return enumeration([f"'{name.replace('_', ' ')}'" for name in faults])
