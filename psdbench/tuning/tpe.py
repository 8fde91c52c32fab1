"""The tree-structured Parzen estimator of optuna as a pure function: from the trials so far to the next one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from psdbench.defaults.spaces import Dimension, Range
from psdbench.errors import EnvironmentProblem


def propose(
    space: Mapping[str, Dimension],
    history: Sequence[tuple[Mapping[str, Any], float | None]],
    seed: int,
    higher_is_better: bool = True,
) -> dict[str, Any]:
    """The parameters to try after `history`, pairs of parameters and value; equal arguments give equal ones.

    A trial without a value (None) counts as worse than all others. TPE draws at random until ten trials are done.
    """
    optuna = load_optuna()
    distributions = {key: _distribution(dimension) for key, dimension in space.items()}
    direction = "maximize" if higher_is_better else "minimize"
    study = optuna.create_study(sampler=optuna.samplers.TPESampler(seed=seed), direction=direction)
    states = optuna.trial.TrialState
    for params, value in history:
        state = states.PRUNED if value is None else states.COMPLETE
        trial = optuna.trial.create_trial(
            state=state, params=dict(params), distributions=distributions, value=value
        )
        study.add_trial(trial)
    return dict(study.ask(distributions).params)


def _distribution(dimension: Dimension) -> Any:
    from optuna import distributions

    if not isinstance(dimension, Range):
        return distributions.CategoricalDistribution(dimension.values)
    low, high = dimension.low, dimension.high
    if isinstance(low, int) and isinstance(high, int):
        return distributions.IntDistribution(low, high, log=dimension.log)
    return distributions.FloatDistribution(low, high, log=dimension.log)


def load_optuna() -> Any:
    """The package optuna, silenced; EnvironmentProblem when it is not installed."""
    try:
        import optuna
    except ImportError as error:
        raise EnvironmentProblem(
            f"tuning needs optuna, which cannot be imported: {error}", "pip install 'optuna>=4'"
        ) from error
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    return optuna


def version() -> str:
    """What proposes the trials."""
    return f"TPE of optuna {load_optuna().__version__}"
