"""From results to the numbers of a report: pure functions of the scores, free of time and place."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import combinations
from statistics import fmean

from psdbench.config import ScorerRef
from psdbench.errors import UsageError, unknown
from psdbench.report.comparison import (
    LEVEL,
    MANY_SEEDS,
    Comparison,
    compare,
    corrected,
    holm,
    interquartile_mean,
)
from psdbench.report.results import ACCURACY, FINISHED, MAJORITY, Result
from psdbench.scorers.catalogue import SCORERS, scale
from psdbench.stats import Estimate, Scores, estimate, p_value, paired_difference, prompt_means

DEFAULT_BASELINE = "sds"
_ORDER = [*SCORERS, MAJORITY]


@dataclass(frozen=True)
class Metric:
    """A column of the tables; `trained_on` lists the methods whose jobs this very scorer has steered.

    `valid` is whether it ranked its controls as it must, None where it was not tried.
    """

    id: str
    higher_is_better: bool
    sha256: str
    trained_on: frozenset[str] = frozenset()
    valid: bool | None = None


@dataclass(frozen=True)
class Analysis:
    """All numbers of a report, by method label and metric id.

    `means` are over prompts, `comparisons` with the baseline over the (prompt, seed) pairs that both have and
    corrected as one family; `by_prompt` holds (number of seeds, mean) for (prompt, method, metric).
    """

    methods: tuple[str, ...]
    metrics: tuple[Metric, ...]
    prompts: tuple[str, ...]
    baseline: str | None
    means: dict[tuple[str, str], Estimate]
    comparisons: dict[tuple[str, str], Comparison]
    by_prompt: dict[tuple[str, str, str], tuple[int, float]]
    finished: dict[str, int]
    total: dict[str, int]
    elsewhere: frozenset[str] = frozenset()
    """methods whose renders were made elsewhere: they share no optimizer with the others"""
    tops: dict[str, frozenset[str]] = field(default_factory=dict)
    """by metric the methods that are not separable from the best; empty where nothing can be separated"""
    middles: dict[tuple[str, str], Estimate] = field(default_factory=dict)
    """interquartile means, where every prompt has many seeds"""

    def metric(self, id: str) -> Metric | None:
        """The metric of that id, None if it was not measured."""
        return next((metric for metric in self.metrics if metric.id == id), None)


def analyse(
    results: Sequence[Result], baseline: str | None = None, valid: Mapping[str, bool] | None = None
) -> Analysis:
    """Means, paired differences and values by prompt; UsageError for a baseline that is not there.

    Methods stand in the order of the results, but for the baseline, which comes first.
    Without a baseline asked for, `sds` is it where there is one. `valid` says of metrics whether they ranked
    their controls as they must.
    """
    labels = dict.fromkeys(result.label for result in results)
    chosen = _baseline(labels, baseline)
    methods = tuple(sorted(labels, key=lambda label: label != chosen))
    metrics = tuple(replace(m, valid=(valid or {}).get(m.id)) for m in _metrics(results))
    table = {(method, m.id): scores_of(results, method, m.id) for method in methods for m in metrics}
    comparisons = {
        (method, m.id): compare(table[method, m.id], table[chosen, m.id], m.higher_is_better)
        for method in methods
        for m in metrics
        if chosen is not None and method != chosen
    }
    return Analysis(
        methods=methods,
        metrics=metrics,
        prompts=tuple(sorted({result.spec.prompt for result in results})),
        baseline=chosen,
        means={key: estimate(scores, _scale(key[1])) for key, scores in table.items()},
        comparisons=corrected(comparisons),
        by_prompt=_by_prompt(table),
        finished={m: sum(r.label == m and r.status == FINISHED for r in results) for m in methods},
        total={m: sum(r.label == m for r in results) for m in methods},
        elsewhere=frozenset(result.label for result in results if result.foreign),
        tops=_tops(table, metrics),
        middles=_middles(table),
    )


def _scale(metric: str) -> tuple[float, float] | None:
    """The ends at which a metric's interval stops."""
    return scale(ACCURACY if metric == MAJORITY else metric)


def _baseline(labels: Iterable[str], asked: str | None) -> str | None:
    if asked is None:
        return DEFAULT_BASELINE if DEFAULT_BASELINE in labels else None
    if asked not in labels:
        problem = unknown("baseline", asked, labels, "these results")
        raise UsageError(str(problem), problem.remedy)
    return asked


def _metrics(results: Sequence[Result]) -> tuple[Metric, ...]:
    """Every metric with a score, embedded ones in their usual order, others by name after them."""
    found = {id: score for result in results for id, score in result.scores.items()}
    rank = {id: index for index, id in enumerate(_ORDER)}
    return tuple(
        Metric(id, found[id].higher_is_better, found[id].sha256, _steered(results, id, found[id].sha256))
        for id in sorted(found, key=lambda id: (rank.get(id, len(rank)), id))
    )


def _steered(results: Sequence[Result], id: str, sha256: str) -> frozenset[str]:
    """The methods that this scorer steered: it was their reward and was called, or it finetuned their prior."""
    return frozenset(result.label for result in results if ScorerRef(id, sha256) in _teachers(result))


def _teachers(result: Result) -> list[ScorerRef | None]:
    """The scorers that had a say in a result before it was measured."""
    spec = result.spec
    called = [spec.protocol.reward] if result.cost.get("reward_forwards", 0) > 0 else []
    return [*called, *([spec.lora.reward] if spec.lora else [])]


def scores_of(results: Sequence[Result], method: str, metric: str) -> Scores:
    """One number per prompt and seed: the mean over the views of each fully scored job."""
    return {
        result.key: mean
        for result in results
        if result.label == method and metric in result.scores
        if (mean := result.scores[metric].mean) is not None
    }


def _tops(table: Mapping[tuple[str, str], Scores], metrics: Sequence[Metric]) -> dict[str, frozenset[str]]:
    """By metric the best mean and all that no paired test tells from it.

    Holm's correction is over all pairs of all metrics, so that no mark of the report says more than its verdict.
    """
    tested = {}
    for metric in metrics:
        methods = [method for method, id in table if id == metric.id and table[method, id]]
        for one, other in combinations(methods, 2):
            p = _pair_p(table[one, metric.id], table[other, metric.id])
            if p is not None:
                tested[metric.id, frozenset((one, other))] = p
    adjusted = dict(zip(tested, holm(tested.values()), strict=True))
    return {metric.id: _top(table, metric, adjusted) for metric in metrics}


def _top(
    table: Mapping[tuple[str, str], Scores],
    metric: Metric,
    adjusted: Mapping[tuple[str, frozenset[str]], float],
) -> frozenset[str]:
    scores = {method: each for (method, id), each in table.items() if id == metric.id and each}
    if not any(id == metric.id for id, _ in adjusted):
        return frozenset()
    sign = 1 if metric.higher_is_better else -1
    best = max(scores, key=lambda method: sign * float(prompt_means(scores[method]).mean()))
    worse = {
        method
        for method in scores
        if adjusted.get((metric.id, frozenset((method, best))), 1.0) <= LEVEL
        and paired_difference(scores[method], scores[best]).sign
    }
    return frozenset(scores.keys() - worse)


def _pair_p(scores: Scores, others: Scores) -> float | None:
    return p_value({key: scores[key] - others[key] for key in scores if key in others})


def _middles(table: Mapping[tuple[str, str], Scores]) -> dict[tuple[str, str], Estimate]:
    """Interquartile means of what has at least `MANY_SEEDS` seeds of every prompt."""
    known = {key: scores for key, scores in table.items() if scores}
    enough = {key for key, scores in known.items() if _fewest_seeds(scores) >= MANY_SEEDS}
    return {key: interquartile_mean(scores) for key, scores in known.items() if key in enough}


def _fewest_seeds(scores: Scores) -> int:
    return min(Counter(prompt for prompt, _ in scores).values())


def _by_prompt(table: dict[tuple[str, str], Scores]) -> dict[tuple[str, str, str], tuple[int, float]]:
    values: dict[tuple[str, str, str], list[float]] = {}
    for (method, metric), scores in table.items():
        for (prompt, _), value in scores.items():
            values.setdefault((prompt, method, metric), []).append(value)
    return {key: (len(each), fmean(each)) for key, each in values.items()}
