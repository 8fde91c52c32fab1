"""Metrics by the names that people give: full ids, those of a run that names none, the weights that they need."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from psdbench import weights
from psdbench.errors import UsageError, unknown
from psdbench.registry import WORLD
from psdbench.scorers import load_scorer
from psdbench.scorers.catalogue import SCORERS
from psdbench.scorers.official import SHORT

if TYPE_CHECKING:
    from psdbench.config import ScorerRef


def metric_id(name: str, prior: str) -> str:
    """The full id of a metric's short or full name; UsageError with near names if there is none.

    ``hps`` is ``hps_shapes`` with the shapes prior and ``hps_v2.1``, the newest official one, with any other.
    """
    embedded = f"{name}_{WORLD}"
    if name in SCORERS:
        return name
    if prior == WORLD and embedded in SCORERS:
        return embedded
    if name in SHORT:
        return SHORT[name]
    raise unknown("metric", name, SCORERS.keys() | SHORT.keys())


def default_metrics(prior: str) -> list[str]:
    """What a run is scored with that names no metrics.

    In the embedded world all that is embedded; with any other prior the newest official metrics whose weights are
    here, and those that need none. More can be added to a finished run at any time with ``psdbench score``.
    """
    if prior == WORLD:
        return [name for name, listing in SCORERS.items() if not listing.weights]
    free = [name for name, listing in SCORERS.items() if not listing.weights and not listing.world_only]
    return [*(name for name in SHORT.values() if not _lacks_weights(name)), *free]


def left_out(prior: str) -> list[str]:
    """The newest official metrics that `default_metrics` leaves out because their weights are not here."""
    return [] if prior == WORLD else [name for name in SHORT.values() if _lacks_weights(name)]


def _lacks_weights(full_id: str) -> bool:
    return any(weights.problems(entry) for entry in weights.with_needs(weights_of([full_id])))


def weights_of(full_ids: Iterable[str]) -> list[str]:
    """The entries of `psdbench.weights` for metrics, each once; those that are embedded or made of code have none."""
    entries = (SCORERS[full_id].weights for full_id in full_ids)
    return list(dict.fromkeys(entry for entry in entries if entry))


def require_weights(full_ids: Iterable[str]) -> None:
    """Raise EnvironmentProblem that names each missing file of these metrics and the command that gets it."""
    weights.require(weights_of(full_ids))


def scorer_ref(full_id: str) -> ScorerRef:
    """The identity of a reward: hashes its files, loads no model.

    Raises EnvironmentProblem without the files, UsageError for a scorer of whole assets, which cannot steer.
    """
    from psdbench.config import ScorerRef

    scorer = load_scorer(full_id)
    if hasattr(scorer, "score_asset"):
        raise UsageError(
            f"'{full_id}' judges all views of an asset together, so it cannot steer what sees one at a time",
            "choose a scorer of pictures: --reward hps",
        )
    return ScorerRef(full_id, scorer.sha256)
