"""What the numbers of a report hang on: protocol, weights, versions, machine, and the commands that repeat it."""

from __future__ import annotations

import json
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from psdbench.config import identity
from psdbench.errors import CorruptResult
from psdbench.report.analysis import Analysis
from psdbench.report.blocks import Table, words
from psdbench.report.results import CORRUPT, FINISHED, MAJORITY, Result, flat
from psdbench.report.text import MISSING, count
from psdbench.store import verified
from psdbench.store.run import RUN, read_run, told_commands

VERIFY = "psdbench verify: "


def provenance_table(runs: Sequence[Path], analysis: Analysis, results: Sequence[Result]) -> Table:
    """What | value: one row for each thing that a number depends on, and who made it where."""
    protocol = results[0].spec.protocol
    rows = [("protocol", protocol.hash), *flat(identity(protocol)).items()]
    loras = {result.label: result.spec.lora for result in results if result.spec.lora}
    rows += [(f"LoRA of {x}", f"{lora.sha256}, trained on {lora.reward.id}") for x, lora in loras.items()]
    plugins = {result.label: result.spec.plugin for result in results if result.spec.plugin}
    rows += [(f"source of {label}", plugin.sha256) for label, plugin in plugins.items()]
    rows += [(f"weights of {m.id}", m.sha256) for m in analysis.metrics if m.id != MAJORITY]
    rows += [(f"{run.resolve().name}: {key}", found) for run in runs for key, found in _versions(run)]
    rows += [("files", _verified(results)), ("this report", _command(runs, analysis))]
    return Table("Provenance", ["what", "value"], [words(key, _text(found)) for key, found in rows], left=2)


def _text(value: Any) -> str:
    return (value if isinstance(value, str) else json.dumps(value)) or MISSING


def _verified(results: Sequence[Result]) -> str:
    """Scores and costs are read only if their sha256 is that of the manifest."""
    finished = sum(result.status == FINISHED for result in results)
    corrupt = sum(result.status == CORRUPT for result in results)
    text = f"scores and costs of {count(finished, 'job')} are those of their manifests by sha256"
    return f"{text}; {corrupt} corrupt, left out" if corrupt else text


def _command(runs: Sequence[Path], analysis: Analysis) -> str:
    """Folders by their names: a report tells nothing of the rest of the machine."""
    names = [run.resolve().name for run in runs]
    baseline = ["--baseline", analysis.baseline] if analysis.baseline else []
    return shlex.join(["psdbench", "report", *names, *baseline])


def _versions(run: Path) -> list[tuple[str, Any]]:
    """Commands, versions and machines as run.json tells them; no number depends on it."""
    try:
        told = told_commands(read_run(run))
    except CorruptResult:
        return [(RUN, "unreadable")]
    lines = [_run_command(each["options"]) for each in told if isinstance(each.get("options"), dict)]
    facts = dict[str, list[str]]()
    for each in told:
        made_by = {key: each[key] for key in ("versions", "machine") if isinstance(each.get(key), dict)}
        for key, value in flat(made_by).items():
            facts.setdefault(key, []).append(_text(value))
    commands = [("command", line) for line in dict.fromkeys(lines)]
    met = [(key, " and ".join(dict.fromkeys(values))) for key, values in sorted(facts.items())]
    return [*commands, *met, ("proof", f"{VERIFY}{_proof(run)}")]


def _proof(run: Path) -> str:
    try:
        return verified.told(run)
    except CorruptResult:
        return "its record is unreadable"


def _run_command(options: dict[str, Any]) -> str:
    """The command line that has these options; what was left at its default is left out."""
    words = ["psdbench", "run"]
    for name, given in options.items():
        if name == "tables" and isinstance(given, dict):
            words += [
                word for key, each in flat(given).items() for word in ("--set", f"{key}={json.dumps(each)}")
            ]
        elif given is True:
            words.append(f"--{name.replace('_', '-')}")
        elif given not in (None, False, "", []):
            texts = map(str, given if isinstance(given, list) else [given])
            words += [f"--{name.replace('_', '-')}", ",".join(map(_local, texts))]
    return shlex.join(words)


def _local(text: str) -> str:
    """Of a file or folder named from the root its name alone, as for the runs."""
    return Path(text).name if Path(text).is_absolute() else text


def title(runs: Sequence[Path]) -> str:
    """The names of the run folders."""
    return ", ".join(run.resolve().name for run in runs)
