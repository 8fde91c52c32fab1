"""What the numbers say, in words: which differences to the baseline chance could not have made."""

from __future__ import annotations

from collections.abc import Sequence

from psdbench.report.analysis import Analysis, Metric
from psdbench.report.results import FINISHED, MAJORITY, Result
from psdbench.report.text import count, enumeration, interval, markdown

TRUTH = "true_preference"


def verdict(analysis: Analysis, results: Sequence[Result]) -> list[str]:
    """Sentences in Markdown, one list item each."""
    if not analysis.metrics:
        return [f"Nothing is scored yet: {_missing(results) or 'no scores in these runs'}."]
    lines = _comparisons(analysis)
    lines += (
        [f"{_missing(results)}; every mean is over the jobs that have a result."] if _missing(results) else []
    )
    return lines


def _comparisons(analysis: Analysis) -> list[str]:
    others = [method for method in analysis.methods if method != analysis.baseline]
    if analysis.baseline is None:
        return ["No baseline among these methods, so no differences: choose one with --baseline."]
    if not others:
        return [f"Only the baseline {_bold(analysis.baseline)} is here: nothing to compare it with."]
    lines = [line for method in others for line in _method(analysis, method)]
    told = [d for (_, id), d in analysis.differences.items() if id != MAJORITY and d.low is not None]
    if told:
        lines.append(
            "Separable means that the 95 % interval of the paired difference excludes 0. "
            f"Of {len(told)} comparisons about {0.05 * len(told):.1f} would do so by chance alone; "
            "no correction is made for that."
        )
    return lines


def _method(analysis: Analysis, method: str) -> list[str]:
    pairs = [(m, analysis.differences[method, m.id]) for m in analysis.metrics if m.id != MAJORITY]
    pairs = [(metric, difference) for metric, difference in pairs if difference.n]
    name = f"{_bold(method)} against {markdown(analysis.baseline or '')}"
    if not pairs:
        return [f"{name}: no prompt and seed that both have finished."]
    n, prompts = max((d.n, d.prompts) for _, d in pairs)
    name += f" ({count(n, 'pair')} over {count(prompts, 'prompt')})"
    if prompts == 1:
        return [f"{name}: one prompt gives no interval, so no difference can be told from chance."]
    groups = {"better": 1, "worse": -1}
    parts = []
    for word, sign in groups.items():
        found = [_named(m, method, interval(d, True)) for m, d in pairs if _direction(m, d.sign) == sign]
        parts += [f"{word} on {enumeration(found)}"] if found else []
    unclear = [_named(m, method) for m, d in pairs if d.sign == 0]
    parts += [f"not separable on {enumeration(unclear)}"] if unclear else []
    return [f"{name}: {'; '.join(parts)}.", *_hacking(analysis, method)]


def _hacking(analysis: Analysis, method: str) -> list[str]:
    """The trained-on reward beside the true preference: is the gain real?"""
    reward = next((metric for metric in analysis.metrics if method in metric.trained_on), None)
    truth = analysis.metric(TRUTH)
    if reward is None or truth is None or reward == truth:
        return []
    gained = _direction(reward, analysis.differences[method, reward.id].sign)
    real = _direction(truth, analysis.differences[method, truth.id].sign)
    name, steered = _bold(method), f"{markdown(reward.id)}†"
    if gained <= 0:
        change = "does not separably raise" if gained == 0 else "lowers"
        return [f"{name} {change} the reward that it is steered by, {steered}."]
    if real > 0:
        return [f"The gain of {name} on {steered}, which steers it, is real: the true preference rises too."]
    outcome = "falls" if real < 0 else "does not separably rise"
    return [
        f"{name} raises {steered}, which steers it, while the true preference {outcome}: mind reward hacking."
    ]


def _missing(results: Sequence[Result]) -> str:
    """``2 of 24 jobs have no result (1 diverged, 1 failed)``, empty when all have."""
    states = [result.status for result in results if result.status != FINISHED]
    if not states:
        return ""
    kinds = ", ".join(f"{states.count(state)} {state}" for state in sorted(set(states)))
    return f"{len(states)} of {count(len(results), 'job')} without a result ({kinds})"


def _direction(metric: Metric, sign: int) -> int:
    """1 for better, -1 for worse."""
    return sign if metric.higher_is_better else -sign


def _named(metric: Metric, method: str, value: str = "") -> str:
    dagger = "†" if method in metric.trained_on else ""
    return f"{markdown(metric.id)}{dagger}{f' ({value})' if value else ''}"


def _bold(method: str) -> str:
    return f"**{markdown(method)}**"
