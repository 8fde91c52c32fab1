"""The outcome of a study: how methods rank, how far raters agree, and which metrics say what people say."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from psdbench.errors import UsageError
from psdbench.report.analysis import analyse
from psdbench.report.blocks import Cell, Line, Table, estimated
from psdbench.report.results import MAJORITY, Result, read_runs
from psdbench.report.text import count, enumeration
from psdbench.stats import Estimate, estimate
from psdbench.study.model import MANY_RATERS, Strengths, bradley_terry, krippendorff
from psdbench.study.votes import PASS, Vote, Votes, find_run, read_key, read_votes


class Outcome:
    """What the votes on the study of a run say."""

    def __init__(self, votes: Votes, results: Sequence[Result]) -> None:
        self.votes = votes
        self.strengths: Strengths = bradley_terry(votes.votes)
        self.raters = krippendorff(votes.votes)
        self.metrics = {
            metric.id: (
                metric.trained_on,
                agreement_with(votes.votes, results, metric.id, metric.higher_is_better),
            )
            for metric in analyse(results).metrics
            if metric.id != MAJORITY
        }

    @property
    def lines(self) -> list[Line]:
        """What a reader must know of the votes."""
        found = self.votes
        lines = [Line(f"{count(len(found.votes), 'vote')} of {count(len(found.raters), 'rater')}.")]
        if found.rejected:
            told = enumeration([f"{rater} ({share})" for rater, share in found.rejected.items()])
            lines.append(
                Line(f"Left out, for fewer than {PASS:.0%} of the attention checks were right: {told}.")
            )
        if found.repeated:
            lines.append(
                Line(f"{count(found.repeated, 'vote')} on items voted on before by the same rater: left out.")
            )
        if self.raters is None:
            lines.append(Line("No item has votes of two raters: their agreement is not known."))
        else:
            alpha = estimated(self.raters).whole
            lines.append(
                Line(
                    f"{alpha} over {count(self.raters.prompts, 'item')} (1 perfect, 0 chance).",
                    "Krippendorff's α",
                )
            )
        return lines

    def against(self, baseline: str | None) -> list[Line]:
        """How often people prefer each method to the baseline; each interval is that of one comparison alone."""
        who = f"by {count(len(self.votes.votes), 'vote')} of {count(len(self.votes.raters), 'rater')}"
        lines = []
        for (method, other), found in self.strengths.beats.items():
            if other == baseline and found.mean is not None:
                spread = found.low is not None and found.high is not None
                clear = spread and not (found.low or 0.0) <= 0.5 <= (found.high or 1.0)
                word = "not separable" if not clear else "preferred" if found.mean > 0.5 else "not preferred"
                told = f"chance to be preferred to {baseline} {estimated(found).whole}, {who}"
                lines.append(Line(f"is {word} by people: {told}.", method))
        return lines

    @property
    def tables(self) -> list[Table]:
        """The ranking of the methods and the agreement of the metrics."""
        how = "prompts and raters" if len(self.votes.raters) >= MANY_RATERS else "prompts"
        rows = [
            [Cell(method), estimated(value, signed=True), estimated(self.strengths.chance[method])]
            for method, value in self.strengths.strength.items()
        ]
        note = (
            "Bradley-Terry strengths, 0 on average; the chance is that of being preferred to the average method. A tie "
            f"is half a vote for each. 95 % intervals from a bootstrap over {how}."
        )
        ranking = Table("Methods by votes", ["method", "strength", "chance"], rows, notes=[note])
        shares = sorted(self.metrics.items(), key=lambda item: -(item[1][1].mean or 0.0))
        told = [
            [Cell(id), Cell(str(share.n), sort=share.n), estimated(share), Cell(", ".join(sorted(trained)))]
            for id, (trained, share) in shares
        ]
        meaning = (
            "Share of the votes for one of two assets, ties left out, in which the metric prefers the same one; 0.5 is "
            "chance. Mean over prompts with its 95 % interval."
        )
        header = ["metric", "votes", "agreement", "trained on it"]
        return [ranking, Table("Metrics and votes", header, told, notes=[meaning])]

    @property
    def content(self) -> dict[str, Any]:
        """For programs."""
        return {
            "schema_version": 1,
            "votes": len(self.votes.votes),
            "raters": len(self.votes.raters),
            "rejected": self.votes.rejected,
            "krippendorff_alpha": _numbers(self.raters) if self.raters else None,
            "methods": [
                {"method": m, "strength": _numbers(e), "chance": _numbers(self.strengths.chance[m])}
                for m, e in self.strengths.strength.items()
            ],
            "metrics": [
                {"metric": id, "agreement": _numbers(share), "trained_on": sorted(trained)}
                for id, (trained, share) in self.metrics.items()
            ],
        }


def outcome_of(runs: Sequence[Path], files: Sequence[Path]) -> tuple[Path, Outcome]:
    """The run among several whose study the votes are on, and what they say; UsageError where it is none of them."""
    run = find_run(files, runs, "report the run that the study was exported from")
    return run, outcome(run, files)


def outcome(run: Path, files: Sequence[Path]) -> Outcome:
    """Read the votes on the study of a run and fit them.

    Raises UsageError for files that are no votes on it, or when no vote is left that counts.
    """
    study, items = read_key(run)
    votes = read_votes(files, study, items)
    if not votes.votes:
        left_out = f": {count(len(votes.rejected), 'rater')} failed the checks" if votes.rejected else ""
        raise UsageError(f"no vote counts{left_out}", "ask other raters")
    return Outcome(votes, read_runs([run]))


def agreement_with(
    votes: Sequence[Vote], results: Sequence[Result], metric: str, higher_is_better: bool
) -> Estimate:
    """Share of the decided votes that a metric would have given too; its own ties are half."""
    means = {
        (r.label, r.key): mean
        for r in results
        if metric in r.scores and (mean := r.scores[metric].mean) is not None
    }
    shares: dict[tuple[str, int], float] = {}
    for index, vote in enumerate(votes):
        key = vote.item.prompt, vote.item.seed
        a, b = means.get((vote.item.a, key)), means.get((vote.item.b, key))
        if vote.choice != "tie" and a is not None and b is not None:
            same = (a > b) == ((vote.choice == "a") == higher_is_better)
            shares[vote.item.prompt, index] = 0.5 if a == b else float(same)
    return estimate(shares, (0.0, 1.0))


def _numbers(result: Estimate) -> dict[str, Any]:
    return {"n": result.n, "mean": result.mean, "low": result.low, "high": result.high, "note": result.note}
