"""The report in Markdown: verdict, tables, pictures, cost, failures and provenance."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import fmean, median
from typing import Any

from psdbench.budget import Budget
from psdbench.config import identity
from psdbench.errors import CorruptResult
from psdbench.report.analysis import Analysis, Metric
from psdbench.report.results import FINISHED, MAJORITY, Result, flat
from psdbench.report.text import MISSING, count, enumeration, interval, link, markdown, number, table
from psdbench.report.verdict import verdict
from psdbench.store.run import RUN
from psdbench.store.sealed import read_json

TURNTABLE = "turntable.mp4"
REASON_LENGTH = 200


@dataclass(frozen=True)
class Pictures:
    """The contact sheets of a report: overviews of all prompts, and one sheet for each prompt."""

    overviews: tuple[Path, ...] = ()
    by_prompt: dict[str, Path] = field(default_factory=dict)


def summary(analysis: Analysis, results: Sequence[Result]) -> str:
    """Verdict and main tables: what the command prints."""
    return _joined(_verdict(analysis, results), *_main(analysis))


def document(
    runs: Sequence[Path], analysis: Analysis, results: Sequence[Result], pictures: Pictures, folder: Path
) -> str:
    """The whole report, for a file in `folder`: its links are relative to that."""
    return _joined(
        f"# {', '.join(markdown(run.resolve().name) for run in runs)}",
        _verdict(analysis, results),
        *(f"![every prompt, every method]({link(path, folder)})" for path in pictures.overviews),
        *_main(analysis),
        *_section("Cost", _cost(analysis, results)),
        *_section("Without a result", _failures(results)),
        *_section("By prompt", _by_prompt(analysis)),
        *_section("Pictures", _gallery(results, pictures, folder)),
        *_section("Provenance", _provenance(runs, analysis, results)),
    )


def _joined(*parts: str) -> str:
    return "\n\n".join(part for part in parts if part) + "\n"


def _section(title: str, body: str) -> list[str]:
    return [f"## {title}", body] if body else []


def _verdict(analysis: Analysis, results: Sequence[Result]) -> str:
    return "\n".join(f"- {line}" for line in verdict(analysis, results))


def _main(analysis: Analysis) -> list[str]:
    """The means, the differences, and the notes that explain them."""
    if not analysis.metrics:
        return []
    parts = ["## Results", _means(analysis), _notes(analysis)]
    if analysis.differences:
        title = f"## Paired difference to {markdown(analysis.baseline or '')}"
        parts += [title, _differences(analysis)]
    return parts


def _means(analysis: Analysis) -> str:
    header = ["method", "n", *(_head(metric) for metric in analysis.metrics)]
    rows = [
        [
            markdown(method),
            str(analysis.finished[method]),
            *(_mean(analysis, method, m) for m in analysis.metrics),
        ]
        for method in analysis.methods
    ]
    return table(header, rows)


def _head(metric: Metric) -> str:
    return f"{markdown(metric.id)} {'↑' if metric.higher_is_better else '↓'}"


def _mean(analysis: Analysis, method: str, metric: Metric) -> str:
    result = analysis.means[method, metric.id]
    dagger = "†" if method in metric.trained_on else ""
    partial = f" (n={result.n})" if result.n != analysis.finished[method] else ""
    return f"{interval(result)}{dagger}{partial}"


def _differences(analysis: Analysis) -> str:
    others = [method for method in analysis.methods if method != analysis.baseline]
    rows = []
    for method in others:
        cells = [analysis.differences[method, metric.id] for metric in analysis.metrics]
        pairs = max(cell.n for cell in cells)
        rows.append([markdown(method), str(pairs), *(_difference(cell, pairs) for cell in cells)])
    return table(["method", "pairs", *(_head(metric) for metric in analysis.metrics)], rows)


def _difference(cell: Any, pairs: int) -> str:
    partial = f" (pairs={cell.n})" if cell.n != pairs else ""
    text = f"{interval(cell, signed=True)}{partial}"
    return f"**{text}**" if cell.sign else text


def _notes(analysis: Analysis) -> str:
    """Footnotes, each only where the tables need it."""
    prompts = count(len(analysis.prompts), "prompt")
    notes = [
        f"Mean over {prompts}, each counting once, with its 95 % interval from a bootstrap over prompts "
        "and seeds; n counts jobs with a result."
    ]
    lacking = {result.note for result in analysis.means.values() if result.n and result.note}
    notes += [f"Without interval: {enumeration(sorted(lacking))}."] if lacking else []
    if any(metric.trained_on for metric in analysis.metrics):
        notes.append("† the method was steered by this very scorer: a training figure, not a test.")
    if analysis.metric(MAJORITY):
        notes.append(
            f"{markdown(MAJORITY)}: share of assets that more than half of their views show rightly."
        )
    return " ".join(notes)


def _cost(analysis: Analysis, results: Sequence[Result]) -> str:
    """Mean cost of a finished job by method, and the size of its gradients; network passes count images."""
    columns = {
        "steps": "steps",
        "denoiser forwards": "denoiser_forwards",
        "denoiser backwards": "denoiser_backwards",
        "reward calls": "reward_forwards",
        "decodes": "decodes",
        "seconds": "seconds",
    }
    jobs = {
        m: [r.cost for r in results if r.label == m and r.status == FINISHED and r.cost]
        for m in analysis.methods
    }
    if not any(jobs.values()):
        return ""
    first = analysis.baseline or analysis.methods[0]
    header = ["method", "n", *columns, f"time / {markdown(first)}", "peak memory, MB", "gradient RMS"]
    rows = []
    for method, costs in jobs.items():
        time, reference = _mean_cost(costs, "seconds"), _mean_cost(jobs[first], "seconds")
        memory = max((cost["peak_memory_mb"] for cost in costs if "peak_memory_mb" in cost), default=None)
        cells = [_amount(_mean_cost(costs, name)) for name in columns.values()]
        ratio = f"{time / reference:.2f}" if time and reference else MISSING
        sizes = [cost["gradient_rms_median"] for cost in costs if "gradient_rms_median" in cost]
        size = f"{median(sizes):.3g}" if sizes else MISSING
        rows.append([markdown(method), str(len(costs)), *cells, ratio, _amount(memory), size])
    return _joined(table(header, rows), _cost_notes(results)).strip()


def _cost_notes(results: Sequence[Result]) -> str:
    """What the columns mean, and what ended the jobs."""
    config = results[0].spec.protocol.optimize
    budget = Budget.of(config)
    notes = ["Means over finished jobs; passes through networks count images."]
    scale = "" if config.grad_norm == "none" else f", before grad_norm {config.grad_norm} scaled it"
    notes.append(f"Gradient RMS: that of the method's gradient on the latents, median over the steps{scale}.")
    if budget.unit != "steps":
        notes.append(f"Every job had {budget}, in as many steps as they paid for.")
    if budget.unit == "seconds":
        notes.append("Equal time is that of one machine under one load: no run repeats it exactly.")
    return " ".join(notes)


def _mean_cost(costs: Sequence[dict[str, float]], name: str) -> float | None:
    values = [cost[name] for cost in costs if name in cost]
    return fmean(values) if values else None


def _amount(value: float | None) -> str:
    return (
        MISSING
        if value is None
        else f"{value:.0f}"
        if value >= 100 or value == int(value)
        else f"{value:.1f}"
    )


def _failures(results: Sequence[Result]) -> str:
    rows = [
        [
            markdown(r.label),
            markdown(r.spec.prompt),
            str(r.spec.seed),
            r.status,
            markdown(r.reason[:REASON_LENGTH]),
        ]
        for r in results
        if r.status != FINISHED
    ]
    partial = [
        [markdown(r.label), markdown(r.spec.prompt), str(r.spec.seed), "unscored view", markdown(scorer)]
        for r in results
        for scorer, score in r.scores.items()
        if score.mean is None and scorer != MAJORITY
    ]
    header = ["method", "prompt", "seed", "status", "reason"]
    return table(header, rows + partial, left=5) if rows or partial else ""


def _by_prompt(analysis: Analysis) -> str:
    shown = [metric for metric in analysis.metrics if metric.id != MAJORITY]
    rows = []
    for prompt in analysis.prompts:
        for method in analysis.methods:
            cells = [analysis.by_prompt.get((prompt, method, metric.id)) for metric in shown]
            n = max((cell[0] for cell in cells if cell), default=0)
            values = (number(cell[1]) if cell else MISSING for cell in cells)
            rows.append([markdown(prompt), markdown(method), str(n), *values])
    return (
        table(["prompt", "method", "n", *(_head(metric) for metric in shown)], rows, left=2) if shown else ""
    )


def _gallery(results: Sequence[Result], pictures: Pictures, folder: Path) -> str:
    """Each prompt with its sheet and the turntables of its jobs."""
    blocks = []
    for prompt, sheet in pictures.by_prompt.items():
        videos = [
            f"[{markdown(r.label)} seed {r.spec.seed}]({link(r.folder / TURNTABLE, folder)})"
            for r in results
            if r.spec.prompt == prompt and (r.folder / TURNTABLE).is_file()
        ]
        turntables = f"Turntables: {' · '.join(videos)}" if videos else ""
        blocks += [f"### {markdown(prompt)}", f"![views of every method]({link(sheet, folder)})", turntables]
    return _joined(*blocks).strip()


def _provenance(runs: Sequence[Path], analysis: Analysis, results: Sequence[Result]) -> str:
    """What the numbers hang on: protocol, weights, versions."""
    protocol = results[0].spec.protocol
    rows = [["protocol", f"`{protocol.hash}`"]]
    rows += [[markdown(key), _value(value)] for key, value in flat(identity(protocol)).items()]
    loras = {result.label: result.spec.lora for result in results if result.spec.lora}
    rows += [
        [f"LoRA of {markdown(label)}", f"`{lora.sha256}`, trained on {markdown(lora.reward.id)}"]
        for label, lora in loras.items()
    ]
    scorers = [metric for metric in analysis.metrics if metric.id != MAJORITY]
    rows += [[f"weights of {markdown(metric.id)}", f"`{metric.sha256}`"] for metric in scorers]
    rows += [
        [markdown(f"{run.resolve().name}: {key}"), _value(value)]
        for run in runs
        for key, value in _versions(run)
    ]
    return table(["what", "value"], rows, left=2)


def _value(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value)
    return markdown(text) or MISSING


def _versions(run: Path) -> list[tuple[str, Any]]:
    """Versions and machine as run.json tells them; no number depends on it."""
    try:
        content = read_json(run / RUN) or {}
    except CorruptResult:
        return [(RUN, "unreadable")]
    return sorted(flat({key: content[key] for key in ("versions", "machine") if key in content}).items())
