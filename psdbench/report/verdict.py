"""What the numbers say, in words: which differences to the baseline chance could not have made, at which cost."""

from __future__ import annotations

from collections.abc import Sequence

from psdbench.report.analysis import Analysis, Metric
from psdbench.report.blocks import Line, estimated
from psdbench.report.comparison import LEVEL
from psdbench.report.cost import quality_against
from psdbench.report.failures import missing
from psdbench.report.results import MAJORITY, Result
from psdbench.report.text import count, enumeration

TRUTH = "true_preference"
NAMED = 5
"""metrics without a difference that are named; of more, their number is told"""


def verdict(analysis: Analysis, results: Sequence[Result]) -> list[Line]:
    """Sentences, the most important first."""
    if not analysis.metrics:
        return [Line(f"Nothing is scored yet: {missing(results) or 'no scores in these runs'}.")]
    if len(analysis.methods) == 1:
        return [Line("is the only method here: nothing to compare it with.", analysis.methods[0])]
    if analysis.baseline is None:
        return [Line("No baseline among these methods, so no differences: choose one with --baseline.")]
    others = [method for method in analysis.methods if method != analysis.baseline]
    lines = [*_short(analysis, others), *(x for method in others for x in _method(analysis, results, method))]
    tested = sum(each.adjusted is not None for each in analysis.comparisons.values())
    if tested:
        lines.append(
            Line(
                "Separable means that the 95 % interval of the paired difference excludes 0 and that p is at most "
                f"{LEVEL} after Holm's correction over {count(tested, 'comparison')}: where nothing differs, "
                "at most one report in twenty calls anything better."
            )
        )
    return lines


def _method(analysis: Analysis, results: Sequence[Result], method: str) -> list[Line]:
    pairs = [(m, analysis.comparisons[method, m.id]) for m in analysis.metrics if m.id != MAJORITY]
    pairs = [(metric, found) for metric, found in pairs if found.difference.n]
    name = f"against {analysis.baseline}"
    if not pairs:
        return [Line(f"{name}: no prompt and seed that both have finished.", method)]
    n = max(found.difference.n for _, found in pairs)
    prompts = max(found.difference.prompts for _, found in pairs)
    name += f" ({count(n, 'pair')} over {count(prompts, 'prompt')})"
    if prompts == 1:
        return [
            Line(f"{name}: one prompt gives no interval, so no difference can be told from chance.", method)
        ]
    parts = []
    for word, sign in {"better": 1, "worse": -1}.items():
        found = [
            f"{_named(m, method)} ({estimated(c.difference, True).whole})"
            for m, c in pairs
            if _direction(m, c.sign) == sign
        ]
        parts += [f"{word} on {enumeration(found)}"] if found else []
    unclear = [_named(m, method) for m, c in pairs if c.sign == 0]
    parts += [f"not separable on {_listed(unclear, len(pairs))}"] if unclear else []
    parts += _price(analysis, results, method)
    return [Line(f"{name}: {'; '.join(parts)}.", method), *_hacking(analysis, method)]


def _listed(names: Sequence[str], total: int) -> str:
    """The names, or of more than can be taken in their number alone."""
    if len(names) <= NAMED:
        return enumeration(names)
    return f"any of the {total} metrics" if len(names) == total else f"the other {len(names)} metrics"


def _short(analysis: Analysis, others: Sequence[str]) -> list[Line]:
    """The answer in one sentence: by the true preference where it is known, else by the metrics held out."""
    truth, metrics = analysis.metric(TRUTH), [m for m in analysis.metrics if m.id != MAJORITY]
    if truth:
        others = [m for m in others if analysis.comparisons[m, TRUTH].p is not None]
        signs = {m: _direction(truth, analysis.comparisons[m, TRUTH].sign) for m in others}
        words = {1: "better than", -1: "worse than", 0: "not separable from"}
        groups = {word: [m for m in others if signs[m] == sign] for sign, word in words.items()}
        told = [f"{enumeration(g)} {_are(g)} {word} {analysis.baseline}" for word, g in groups.items() if g]
        return [Line(f"by the true preference, {'; '.join(told)}.", "In short:")] if told else []
    told = []
    for method in others:
        held = [m for m in metrics if method not in m.trained_on]
        if len(metrics) < 2 or all(analysis.comparisons[method, m.id].p is None for m in held):
            continue
        signs_ = [_direction(m, analysis.comparisons[method, m.id].sign) for m in held]
        told.append(f"{method} is better on {signs_.count(1)} and worse on {signs_.count(-1)} of {len(held)}")
    return [Line(f"of the metrics that did not steer it, {'; '.join(told)}.", "In short:")] if told else []


def _are(methods: Sequence[str]) -> str:
    return "is" if len(methods) == 1 else "are"


def _price(analysis: Analysis, results: Sequence[Result], method: str) -> list[str]:
    """``at 2 times the denoiser forwards``; nothing of seconds, for equal scores must give equal words."""
    points = quality_against(analysis, results, analysis.metrics[0], "denoiser_forwards")
    costs = {point.method: point.cost for point in points}
    ours, theirs = costs.get(method), costs.get(analysis.baseline or "")
    return [f"at {ours / theirs:.2g} times the denoiser forwards"] if ours and theirs else []


def _hacking(analysis: Analysis, method: str) -> list[Line]:
    """The trained-on reward beside the true preference: is the gain real?"""
    reward = next((metric for metric in analysis.metrics if method in metric.trained_on), None)
    truth = analysis.metric(TRUTH)
    if reward is None or truth is None or reward == truth:
        return []
    gained = _direction(reward, analysis.comparisons[method, reward.id].sign)
    real = _direction(truth, analysis.comparisons[method, truth.id].sign)
    steered = f"{reward.id}†"
    if gained <= 0:
        change = "does not separably raise" if gained == 0 else "lowers"
        return [Line(f"{change} the reward that it is steered by, {steered}.", method)]
    if real > 0:
        return [
            Line(f"gains on {steered}, which steers it, and for real: the true preference rises too.", method)
        ]
    outcome = "falls" if real < 0 else "does not separably rise"
    return [
        Line(
            f"raises {steered}, which steers it, while the true preference {outcome}: mind reward hacking.",
            method,
        )
    ]


def _direction(metric: Metric, sign: int) -> int:
    """1 for better, -1 for worse."""
    return sign if metric.higher_is_better else -sign


def _named(metric: Metric, method: str) -> str:
    return f"{metric.id}{'†' if method in metric.trained_on else ''}"
