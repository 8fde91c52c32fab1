"""What a tuning leaves behind: a sentence to quote, a table of its trials, and the best parameters as --config."""

from __future__ import annotations

import json
from typing import Any

from psdbench.report.blocks import estimated
from psdbench.report.text import MISSING, count, markdown, number, table
from psdbench.store import atomic
from psdbench.tuning.search import Setup, Study, Trial, Tuning, tpe

TABLE, BEST = "tuning.md", "best.toml"
CAUTION = (
    "The best of many trials looks better than it is: what it is worth, only a run on other prompts says."
)


def write_results(tuning: Tuning) -> None:
    """Write tuning.md, and best.toml with the best parameters of every method that has any."""
    folder = tuning.plan.out
    atomic.write_text(folder / TABLE, document(tuning.setup, tuning.studies))
    atomic.write_text(folder / BEST, config(tuning.setup, tuning.studies))


def effort(setup: Setup) -> str:
    """``8 prompts x 2 seeds, 300 steps a job``."""
    prompts, seeds = count(len(setup.prompts), "prompt"), count(len(setup.seeds), "seed")
    return f"{prompts} x {seeds}, {setup.length} a job"


def sentence(name: str, study: Study, setup: Setup) -> str:
    """How one method was tuned and what came of it, for a report to quote."""
    tried = f"{name} was tuned in {count(len(study.trials), 'trial')} of {effort(setup)}"
    best = study.best(setup.higher_is_better)
    if best is None or best.result is None:
        return f"{tried}; none has a value."
    default = next((trial for trial in study.trials if _is_default(trial, study)), None)
    with_defaults = f", with the defaults {_value(default)}" if default and default is not best else ""
    which = "the defaults are best" if default is best else f"trial {best.number} is best"
    lost = sum(trial.value is None for trial in study.trials)
    without = f"; {lost} had no value" if lost else ""
    return f"{tried}; {which}: {setup.objective.id} {_value(best)}{with_defaults}{without}."


def document(setup: Setup, studies: dict[str, Study]) -> str:
    """tuning.md: a sentence and a table of trials for each method."""
    head = (
        f"# Tuning\n\nTrials were proposed by the {tpe.version()}, each run on the same {effort(setup)}; none "
        f"of the prompts is in a reported set. The objective is the mean of {setup.objective.id}, where "
        f"{'more' if setup.higher_is_better else 'less'} is better. {CAUTION}\n"
    )
    parts = [
        f"## {name}\n\n{markdown(sentence(name, study, setup))}\n\n{_trials(study, setup)}\n"
        for name, study in studies.items()
    ]
    return "\n".join([head, *parts])


def _trials(study: Study, setup: Setup) -> str:
    """The table of a method's trials, the best one marked."""
    best = study.best(setup.higher_is_better)
    header = ["trial", *study.space, setup.objective.id, "seconds a job", "denoiser forwards a job"]
    rows = [
        [
            f"**{trial.number}**" if trial is best else str(trial.number),
            *(_cell(trial.params[key]) for key in study.space),
            _value(trial),
            number(trial.seconds),
            f"{trial.denoiser_forwards:.6g}",
        ]
        for trial in study.trials
    ]
    reasons = [f"- Trial {t.number}: {markdown(t.reason)}" for t in study.trials if t.value is None]
    return table(header, rows) + ("\n\n" + "\n".join(reasons) if reasons else "")


def config(setup: Setup, studies: dict[str, Study]) -> str:
    """best.toml: all parameters of each method's best trial, in the form of --config."""
    parts = [f"# psdbench run --config {BEST}: the best parameters of a tuning. {CAUTION}\n"]
    for name, study in studies.items():
        if best := study.best(setup.higher_is_better):
            values = study.defaults | best.params
            lines = [
                f"{key} = {_toml(value)}{'  # searched' if key in study.space else ''}"
                for key, value in values.items()
                if value is not None  # TOML has no word for it, and leaving it out means the same
            ]
            parts.append("\n".join([f"# {sentence(name, study, setup)}", f"[{name}]", *lines, ""]))
    return "\n".join(parts)


def _is_default(trial: Trial, study: Study) -> bool:
    return all(study.defaults[key] == value for key, value in trial.params.items())


def _value(trial: Trial) -> str:
    return estimated(trial.result).whole if trial.result else MISSING


def _cell(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else markdown(str(value))


def _toml(value: Any) -> str:
    """A number, text, truth value or list of them; JSON and TOML write these alike."""
    return json.dumps(value, ensure_ascii=False)
