"""The report on jobs whose prior was finetuned: one table, told apart, and marked as steered."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path

from psdbench.config import JobSpec, LoraRef, PriorRef, Protocol, ScorerRef
from psdbench.report import build_report
from psdbench.store.manifest import Manifest, record, write_manifest
from psdbench.store.run import job_folder, write_job
from psdbench.store.table import load_table

HPS = ScorerRef("hps_shapes", "a" * 64)
PLAIN = JobSpec("", "sds", {}, 0, Protocol(PriorRef("shapes", "b" * 64)))
DRAFT = LoraRef("c" * 64, "draft", HPS)


def write_jobs(run: Path, lora: LoraRef | None, level: float) -> None:
    """Three finished jobs with made-up scores."""
    for number, prompt in enumerate(("a red cube", "a blue cone", "a pink sphere")):
        spec = replace(PLAIN, prompt=prompt, lora=lora)
        folder = job_folder(run, spec)
        folder.mkdir(parents=True)
        write_job(folder, spec)
        scorers = (asdict(HPS), asdict(ScorerRef("true_preference", "d" * 64)))
        scores = {
            s["id"]: {"sha256": s["sha256"], "higher_is_better": True, "values": [level + number / 50]}
            for s in scorers
        }
        (folder / "scores.json").write_text(json.dumps(scores))
        (folder / "cost.json").write_text(json.dumps({"seconds": 1.0, "reward_forwards": 0}))
        files = record(folder, ["scores.json", "cost.json"], "score")
        write_manifest(folder, Manifest("finished", spec.id, spec.protocol.hash, files))


def test_a_finetuned_prior_is_a_method_of_the_same_table_and_marked_as_steered(tmp_path: Path) -> None:
    write_jobs(tmp_path, None, 0.2)
    write_jobs(tmp_path, DRAFT, 0.3)
    report = build_report([tmp_path])
    assert report.analysis.methods == ("sds", "sds+draft")
    difference = report.analysis.comparisons["sds+draft", "hps_shapes"].difference
    assert difference.n == 3
    assert abs((difference.mean or 0) - 0.1) < 1e-9
    hps, truth = (report.analysis.metric(id) for id in ("hps_shapes", "true_preference"))
    assert hps is not None
    assert truth is not None
    assert hps.trained_on == {"sds+draft"}
    assert truth.trained_on == frozenset()
    assert set(load_table(tmp_path)["method"]) == {"sds", "sds+draft"}
    report.write_file("md", tmp_path / "report.md")
    assert f"{DRAFT.sha256}, trained on hps" in (tmp_path / "report.md").read_text()


def test_two_finetunings_of_one_name_are_told_apart_by_their_hash(tmp_path: Path) -> None:
    write_jobs(tmp_path, DRAFT, 0.2)
    write_jobs(tmp_path, replace(DRAFT, sha256="e" * 64), 0.3)
    methods = build_report([tmp_path]).analysis.methods
    assert methods == (f"sds+draft(lora={'c' * 12})", f"sds+draft(lora={'e' * 12})")
