"""`psdbench prefetch`: the weights of real priors and official scorers; the only command that uses a network."""

from __future__ import annotations

from collections.abc import Iterable

from psdbench.cli import options as o
from psdbench.cli.output import print_json, say


def prefetch(prior: o.Prior = None, metrics: o.Metrics = None, json: o.Json = False) -> int:
    """Fetch the weights of a prior and of metrics into $PSDBENCH_WEIGHTS (~/.cache/psdbench), and check them.

    Example:  psdbench prefetch --prior sd15 --metrics hps_v2.1,image_reward_v1.0
    """
    import os

    from psdbench import weights
    from psdbench.errors import EnvironmentProblem, UsageError
    from psdbench.registry import split_names

    known = ", ".join(weights.catalogue())
    names = needed_weights(prior, split_names(metrics or []))
    if not prior and not metrics:
        raise UsageError("nothing to fetch", f"pass --prior or --metrics; there are: {known}")
    entries = weights.with_needs(names)
    if not entries:
        say("nothing to fetch: what is embedded, or a folder of your own, is used where it lies")
    elif os.environ.get("HF_HUB_OFFLINE", "").upper() in ("1", "TRUE", "YES", "ON"):
        raise EnvironmentProblem("HF_HUB_OFFLINE forbids the network", "unset it for this command")
    from psdbench.weights.fetch import fetch

    brought = fetch(entries, say)
    if json:
        print_json(
            {
                "folder": str(weights.root()),
                "entries": [
                    {"name": e.name, "licence": e.licence, "fetched": brought.get(e.name, [])}
                    for e in entries
                ],
            }
        )
        return 0
    for entry in entries:
        count = len(brought.get(entry.name, []))
        say(f"{entry.name}: {count or 'no'} files fetched, all are there; licence: {entry.licence}")
        print(weights.folder(entry.name))
    return 0


def needed_weights(prior: str | None, metrics: Iterable[str]) -> list[str]:
    """The entries of `psdbench.weights` for a prior (a name or a path) and metrics; what is embedded has none."""
    from psdbench import registry
    from psdbench.metrics import metric_id, weights_of

    base = registry.split_prior(prior)[0] if prior else ""
    if base and base not in registry.PRIORS:
        registry.prior_folder(base)  # refuses what is neither a name nor a folder
    fetched = [base] if base in registry.PRIORS and base != registry.WORLD else []
    return fetched + weights_of(metric_id(name, base) for name in metrics)
