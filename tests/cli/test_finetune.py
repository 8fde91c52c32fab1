"""`finetune` from the outside, and `run` on what it made."""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable
from pathlib import Path
from typing import get_args, get_type_hints

import pytest

from psdbench.store.table import load_table


@pytest.fixture
def tuning(tiny_prior_folder: Path, tmp_path: Path) -> list[object]:
    """Arguments of a finetuning that takes a moment."""
    prompts = tmp_path / "training.txt"
    prompts.write_text("a red cone\na blue cube\na green sphere\n")
    sets = ["--set", "draft.batch=1", "--set", "draft.sampling_steps=2"]
    options = ["--algorithm", "draft", "--reward", "hps_shapes", "--prior", tiny_prior_folder]
    return [
        *options,
        "--prompts",
        prompts,
        "--steps",
        2,
        *sets,
        "--device",
        "cpu",
        "--out",
        tmp_path / "lora",
    ]


def test_a_finetuned_prior_is_distilled_like_any_other(
    program: Callable, tuning: list[object], small: list[object], tmp_path: Path
) -> None:
    done = program("finetune", *tuning)
    assert done.code == 0, done.err
    prior = done.out.strip()
    assert prior.endswith(f"+lora:{tmp_path / 'lora'}")
    assert "draft on hps_shapes: loss" in done.err
    assert "step 2/2" in done.err
    assert "on 1 held-out captions" in done.err
    program("run", *small)
    small[small.index("--prior") + 1] = prior
    done = program("run", *small)
    assert done.code == 0, done.err
    assert "prior finetuned as 'draft' on hps_shapes" in done.err
    assert done.err.count(": started") == 2
    assert set(load_table(tmp_path / "run")["method"]) == {"sds", "sds+draft"}
    report = program("report", tmp_path / "run")
    assert report.code == 0, report.err
    assert "sds+draft" in report.out
    assert "2 sds+draft" in program("plan", *small).out


def test_json_holds_the_facts_and_a_repetition_costs_nothing(program: Callable, tuning: list[object]) -> None:
    facts = json.loads(program("finetune", *tuning, "--json", "--quiet").out)
    assert facts["params"]["steps"] == 2
    assert facts["lora"]["sha256"]
    again = program("finetune", *tuning, "--json")
    assert json.loads(again.out) == facts
    assert again.err == ""


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (["--algorithm", "drft"], "unknown algorithm 'drft'"),
        (["--reward", "true_preference"], "needs the gradient of its reward"),
        (["--prior", "nowhere"], "unknown prior 'nowhere'"),
        (["--set", "draft.bacth=1"], "unknown parameter 'bacth'"),
        (["--set", "batch=1"], "is not draft.KEY=VALUE"),
        (["--set", "draft.last_steps=9"], "last_steps must lie between 1 and sampling_steps, 2"),
    ],
)
def test_mistakes_are_exit_code_2(
    program: Callable, tuning: list[object], change: list[str], message: str
) -> None:
    done = program("finetune", *tuning, *change)
    assert done.code == 2
    assert message in done.err
    assert "remedy:" in done.err


def test_a_prior_of_ones_own_needs_prompts(program: Callable, tuning: list[object]) -> None:
    place = tuning.index("--prompts")
    done = program("finetune", *tuning[:place], *tuning[place + 2 :])
    assert done.code == 2
    assert "has no captions of its own" in done.err


def test_a_lora_that_is_not_there_is_exit_code_2(program: Callable, small: list[object]) -> None:
    small[small.index("--prior") + 1] = f"{small[small.index('--prior') + 1]}+lora:nowhere"
    done = program("run", *small)
    assert done.code == 2
    assert "no LoRA at nowhere" in done.err


def test_every_option_has_its_variable() -> None:
    from psdbench.cli.finetune import finetune

    hints = get_type_hints(finetune, include_extras=True)
    for name in inspect.signature(finetune).parameters:
        option = get_args(hints[name])[-1]
        assert str(option.envvar).startswith("PSDBENCH_"), name
