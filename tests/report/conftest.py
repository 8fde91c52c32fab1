"""Fixtures for reports."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from browsing import browser, tab
from made_up_runs import METHODS, PROMPTS, PROTOCOL, RunMaker

from psdbench.config import OptimizeConfig, Protocol
from psdbench.store.run import open_run, write_run

__all__ = ["browser", "tab"]


@pytest.fixture
def make_run(tmp_path: Path) -> Callable[..., RunMaker]:
    """Make a run folder; by default every prompt, method and seed is finished."""

    def make(
        name: str = "trial",
        methods: Sequence[str] = METHODS,
        prompts: Sequence[str] = PROMPTS,
        seeds: Sequence[int] = (0, 1),
        **params: Any,
    ) -> RunMaker:
        maker = RunMaker(open_run(tmp_path / name))
        write_run(maker.run, {"versions": {"psdbench": "0.1.0", "torch": "2.13.0"}, "machine": {"cores": 2}})
        for method in methods:
            for prompt in prompts:
                for seed in seeds:
                    maker.finished(method, prompt, seed, **params)
        return maker

    return make


@pytest.fixture
def other_protocol() -> Protocol:
    """A protocol that differs in two fields."""
    return replace(PROTOCOL, optimize=OptimizeConfig(steps=20), negative_prompt="dull")
