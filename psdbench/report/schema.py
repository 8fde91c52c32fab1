"""The columns of every table that a report writes for programs, and what they mean: written out as `columns.csv`."""

from __future__ import annotations

DIGITS = 12
"""of the hash of a protocol in a column"""
PROTOCOL = {
    "protocol": f"first {DIGITS} digits of the hash of the protocol; only rows of one protocol are compared; "
    "empty where all renders were made elsewhere"
}

TABLE = {
    **PROTOCOL,
    "method": "label of the method, with the parameters in which variants differ; ‡ where the optimizer is not shared",
    "metric": "id of the scorer, which carries version and scale",
    "higher_is_better": "direction of the metric",
    "trained_on": "true where this very scorer steered the method: a training figure, not a test",
    "n": "jobs (prompt and seed) with a score of every view",
    "prompts": "prompts of these jobs",
    "mean": "mean over prompts, each counting once, of the mean over seeds and views",
    "low": "lower end of its 95 % interval; empty where there is none",
    "high": "upper end of it",
    "baseline": "method that it is compared with; empty for the baseline itself",
    "pairs": "prompts and seeds that both have",
    "difference": "mean over prompts of method - baseline on the same prompt and seed",
    "difference_low": "lower end of its 95 % interval, of this comparison alone",
    "difference_high": "upper end of it",
    "valid": "whether the metric ranked its controls as declared; empty where that was not tried",
    "optimizer_shared": "false for renders made elsewhere",
    "p": "two-sided p of this comparison alone, Student's t over the means of prompts",
    "p_holm": "p after Holm's correction over all comparisons of the report",
    "separable": "true where the interval excludes 0 and p_holm is at most 0.05",
    "wins": "share of pairs in which the method is better, ties half",
    "improvement": "chance that any of its runs beats any of the baseline's on the same prompt, ties half",
    "detectable": "smallest difference that so many prompts would show in 80 % of repetitions",
    "shares_top": "true where no paired test tells the method from the best; empty where nothing can be told",
}
"""table.csv and the rows of table.json: one row per method and metric"""

SCORES = {
    **PROTOCOL,
    "method": TABLE["method"],
    "prompt": "the prompt; in CSV with a ' before it where a spreadsheet would take it for a formula",
    "seed": "seed of the job",
    "job": "id of the job, the sha256 of all that determines its result",
    "status": "finished, diverged, failed, corrupt or unfinished",
    "metric": "id of the scorer; empty for a job without scores",
    "view": "number of the view in the order of the rig, from 0",
    "value": "score of that view; empty where the scorer gave none",
    "higher_is_better": TABLE["higher_is_better"],
    "trained_on": TABLE["trained_on"],
}
"""scores.csv and scores.parquet: one row per job, metric and view; a job without scores is one row"""

COST = {
    **PROTOCOL,
    "method": TABLE["method"],
    "prompt": SCORES["prompt"],
    "seed": "seed of the job",
    "status": SCORES["status"],
    "seconds": "time of the optimisation",
    "peak_memory_mb": "most memory held, MB; on the GPU where it computed there",
    "memory_rung": "rung of the memory ladder on which it ended: 0, 1 views one by one, 2 activations computed again",
    "steps": "optimisation steps",
    "gradient_rms_median": "root mean square of the method's gradient on the latents, median over the steps",
    "denoiser_forwards": "images through the denoiser",
    "denoiser_backwards": "images back through the denoiser",
    "encodes": "images encoded to latents",
    "decodes": "latents decoded to images",
    "reward_forwards": "images scored by the reward",
    "reward_backwards": "images back through the reward",
}
"""cost.csv: one row per job"""

SNAPSHOTS = {
    **PROTOCOL,
    "method": TABLE["method"],
    "prompt": SCORES["prompt"],
    "seed": "seed of the job",
    "share": "part of the job's length that was done, 1 for its end",
    "steps": "optimisation steps so far",
    "denoiser_forwards": "images through the denoiser so far",
    "seconds": "time of the optimisation so far, that of taking and scoring snapshots not counted",
    "metric": "id of the scorer",
    "value": "mean over the views",
}
"""snapshots.csv: one row per job with snapshots, snapshot and metric"""

AGREEMENT = {
    **PROTOCOL,
    "metric": TABLE["metric"],
    "people": "true_preference, a dimension of ratings, or votes",
    "unit": "view or asset; of votes a pair of assets, and only the share of pairs is known",
    "n": "items that both have judged",
    "prompts": "prompts of these items",
    **{
        f"{name}{end}": f"{meaning}{where}"
        for name, meaning in {
            "spearman": "Spearman's rank correlation",
            "kendall": "Kendall's tau-b",
            "pairs": "share of the pairs of one prompt in the order of people",
        }.items()
        for end, where in {"": "", "_low": ", lower end of the 95 % interval", "_high": ", upper end"}.items()
    },
}
"""agreement.csv: one row per metric, people and unit"""

FILES = {
    "table.csv": TABLE,
    "scores.csv": SCORES,
    "scores.parquet": SCORES,
    "cost.csv": COST,
    "snapshots.csv": SNAPSHOTS,
    "agreement.csv": AGREEMENT,
}
