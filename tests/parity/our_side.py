"""Our side of the comparison of speed: a script for a process of its own, so that only it is measured.

    PYTHON our_side.py REQUEST.json ANSWER.json

The request names `metrics`, pictures, prompts and pairs of them; all are scored in one go, as `psdbench score` does.
The answer holds the `scores` of the pairs by metric and their `cost`, as the answer of `official_side.py`.
"""

from __future__ import annotations

import json
import resource
import sys
import time
from pathlib import Path
from typing import Any


def answer(request: dict[str, Any]) -> dict[str, Any]:
    """Scores and cost: CPU seconds until all networks were there, and of scoring; the most memory in MB."""
    import torch

    from psdbench.scorers import load_scorer
    from psdbench.scorers.asset import AssetViews, eyes, score_views
    from psdbench.scorers.eye import look
    from psdbench.scorers.pictures import read_picture

    scorers = {metric: load_scorer(metric) for metric in request["metrics"]}
    networks = eyes(scorers.values())
    loading = time.process_time()
    prompts = dict.fromkeys(prompt for _, prompt in request["pairs"])
    rows = {own: [i for i, (_, prompt) in enumerate(request["pairs"]) if prompt == own] for own in prompts}
    assets = {
        prompt: AssetViews(
            request["prompts"][prompt],
            torch.stack([read_picture(Path(request["pictures"][request["pairs"][i][0]])) for i in own]),
        )
        for prompt, own in rows.items()
    }
    look(networks, list(assets.values()))
    scores: dict[str, list[float | None]] = {metric: [None] * len(request["pairs"]) for metric in scorers}
    for metric, scorer in scorers.items():
        for prompt, own in rows.items():
            for i, value in zip(own, score_views(scorer, assets[prompt]), strict=True):
                scores[metric][i] = value
    cost = {
        "loading": loading,
        "rereading": 0.0,
        "scoring": time.process_time() - loading,
        "megabytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }
    return {"scores": scores, "cost": cost}


def main() -> None:
    """Read the request, write the answer."""
    asked, answered = map(Path, sys.argv[1:])
    content = answer(json.loads(asked.read_text(encoding="utf-8")))
    answered.write_text(json.dumps(content), encoding="utf-8")


if __name__ == "__main__":
    main()
