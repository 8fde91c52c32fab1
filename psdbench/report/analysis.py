"""From results to the numbers of a report: pure functions of the scores, free of time and place."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import fmean

from psdbench.config import ScorerRef
from psdbench.errors import UsageError, unknown
from psdbench.report.results import ACCURACY, FINISHED, MAJORITY, Result
from psdbench.scorers.catalogue import SCORERS
from psdbench.stats import Estimate, Scores, estimate, paired_difference

DEFAULT_BASELINE = "sds"
_ORDER = [*SCORERS, MAJORITY]
_BOUNDS = {ACCURACY: (0.0, 1.0), MAJORITY: (0.0, 1.0)}


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

    `means` are over prompts, `differences` to the baseline over the (prompt, seed) pairs that both have;
    `by_prompt` holds (number of seeds, mean) for (prompt, method, metric).
    """

    methods: tuple[str, ...]
    metrics: tuple[Metric, ...]
    prompts: tuple[str, ...]
    baseline: str | None
    means: dict[tuple[str, str], Estimate]
    differences: dict[tuple[str, str], Estimate]
    by_prompt: dict[tuple[str, str, str], tuple[int, float]]
    finished: dict[str, int]
    total: dict[str, int]
    elsewhere: frozenset[str] = frozenset()
    """methods whose renders were made elsewhere: they share no optimizer with the others"""

    def metric(self, id: str) -> Metric | None:
        """The metric of that id, None if it was not measured."""
        return next((metric for metric in self.metrics if metric.id == id), None)


def analyse(
    results: Sequence[Result], baseline: str | None = None, valid: Mapping[str, bool] | None = None
) -> Analysis:
    """Means, paired differences and values by prompt; UsageError for a baseline that is not there.

    Without a baseline asked for, `sds` is it where there is one. `valid` says of metrics whether they ranked
    their controls as they must.
    """
    labels = {result.label for result in results}
    chosen = _baseline(labels, baseline)
    methods = tuple(sorted(labels, key=lambda label: (label != chosen, label)))
    metrics = tuple(replace(m, valid=(valid or {}).get(m.id)) for m in _metrics(results))
    table = {(method, m.id): _scores(results, method, m.id) for method in methods for m in metrics}
    differences = {
        (method, m.id): paired_difference(table[method, m.id], table[chosen, m.id])
        for method in methods
        for m in metrics
        if chosen is not None and method != chosen
    }
    return Analysis(
        methods=methods,
        metrics=metrics,
        prompts=tuple(sorted({result.spec.prompt for result in results})),
        baseline=chosen,
        means={key: estimate(scores, _BOUNDS.get(key[1])) for key, scores in table.items()},
        differences=differences,
        by_prompt=_by_prompt(table),
        finished={m: sum(r.label == m and r.status == FINISHED for r in results) for m in methods},
        total={m: sum(r.label == m for r in results) for m in methods},
        elsewhere=frozenset(result.label for result in results if result.foreign),
    )


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


def _scores(results: Sequence[Result], method: str, metric: str) -> Scores:
    """One number per prompt and seed: the mean over the views of each fully scored job."""
    return {
        result.key: mean
        for result in results
        if result.label == method and metric in result.scores
        if (mean := result.scores[metric].mean) is not None
    }


def _by_prompt(table: dict[tuple[str, str], Scores]) -> dict[tuple[str, str, str], tuple[int, float]]:
    values: dict[tuple[str, str, str], list[float]] = {}
    for (method, metric), scores in table.items():
        for (prompt, _), value in scores.items():
            values.setdefault((prompt, method, metric), []).append(value)
    return {key: (len(each), fmean(each)) for key, each in values.items()}
