"""`psdbench doctor`: what this machine has and lacks, before hours are queued."""

from __future__ import annotations

import os
import re
import shutil
import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

from psdbench.cli import options as o
from psdbench.cli.output import print_columns, print_json
from psdbench.errors import PsdbenchError

DISK_MB = 500
PROBE = "a red cube"


@dataclass(frozen=True)
class Check:
    """One thing that was looked at; `missing` makes the command fail, `optional` does not."""

    topic: str
    state: Literal["ok", "missing", "optional"]
    finding: str
    remedy: str = ""


def doctor(prior: o.Prior = None, metrics: o.Metrics = None, json: o.Json = False) -> int:
    """Check Python, packages, threads, disk, and whether a prior and metrics can run; needs no network.

    Example:  psdbench doctor --prior sd15 --metrics hps_v2.1,image_reward_v1.0

    Without options it tries all that is embedded, and lists the other weights that are here.
    """
    from psdbench.errors import EnvironmentProblem
    from psdbench.registry import split_names

    asked = list(models(prior, split_names(metrics or [])))
    checks = [check for group in (system, packages, extras, compute, disk) for check in group()] + asked
    failed = any(check.state == "missing" for check in checks)
    if json:
        print_json({"ok": not failed, "checks": [asdict(check) for check in checks]})
    else:
        print_columns([(check.state, check.topic, check.finding) for check in checks])
        remedies: dict[str, list[str]] = {}
        for check in checks:
            if check.remedy:
                remedies.setdefault(check.remedy, []).append(check.topic)
        for remedy, topics in remedies.items():
            print(f"{', '.join(dict.fromkeys(topics))}: {remedy}")
    return EnvironmentProblem.exit_code if failed else 0


def system() -> Iterator[Check]:
    """The interpreter."""
    version = ".".join(map(str, sys.version_info[:3]))
    good = sys.version_info >= (3, 11)
    yield Check(
        "python", "ok" if good else "missing", version, "" if good else "install Python 3.11 or newer"
    )


def packages() -> Iterator[Check]:
    """What the installed psdbench says it needs, without its extras."""
    from importlib.metadata import PackageNotFoundError, requires, version

    for requirement in requires("psdbench") or []:
        if "extra ==" in requirement:
            continue
        name = re.split(r"[ <>=!~;\[]", requirement)[0]
        low = re.search(r">=\s*([\d.]+)", requirement)
        try:
            found = version(name)
        except PackageNotFoundError:
            yield Check(name, "missing", "not installed", f"pip install '{requirement}'")
            continue
        old = low is not None and _numbers(found) < _numbers(low[1])
        remedy = f"pip install '{requirement}'" if old else ""
        yield Check(name, "missing" if old else "ok", found, remedy)


def extras() -> Iterator[Check]:
    """Packages that only some uses need, by the extras that bring them."""
    from importlib.util import find_spec

    uses = {
        "mesh": ("export to GLB and PLY, --init", ("trimesh", "plyfile", "skimage")),
        "gsplat": ("faster gaussians on CUDA", ("gsplat",)),
        "tune": ("psdbench tune", ("optuna",)),
    }
    for extra, (use, modules) in uses.items():
        absent = [module for module in modules if find_spec(module) is None]
        finding = f"{use}: {'no ' + ', '.join(absent) if absent else 'installed'}"
        remedy = f"pip install 'psdbench[{extra}]'" if absent else ""
        yield Check(extra, "optional" if absent else "ok", finding, remedy)


def compute() -> Iterator[Check]:
    """Cores, torch's threads and the GPU."""
    import torch

    from psdbench.launch.threads import cores, default_workers, threads_per_worker

    device = "cuda" if torch.cuda.is_available() else "cpu"
    workers = default_workers(device)
    wish = os.environ.get("OMP_NUM_THREADS", "not set")
    shares = f"{workers} workers x {threads_per_worker()} threads"
    yield Check("cpu", "ok", f"{cores()} cores; default: {shares}; OMP_NUM_THREADS {wish}")
    name = torch.cuda.get_device_name() if device == "cuda" else "none usable; the embedded prior needs none"
    yield Check("gpu", "ok" if device == "cuda" else "optional", name)


def disk() -> Iterator[Check]:
    """Whether results can be written here."""
    folder = Path("results") if Path("results").is_dir() else Path()
    free = shutil.disk_usage(folder).free // 2**20
    if not os.access(folder, os.W_OK):
        yield Check(
            "results", "missing", f"{folder.resolve()} cannot be written", "choose a folder with --out"
        )
    elif free < DISK_MB:
        yield Check("results", "missing", f"{free} MB free", f"free at least {DISK_MB} MB")
    else:
        yield Check("results", "ok", f"{free} MB free")


def models(prior: str | None, metrics: list[str]) -> Iterator[Check]:
    """The asked prior and metrics, or the embedded ones and what there is of the others; used once each."""
    from psdbench import registry
    from psdbench.launch.notes import quiet_libraries
    from psdbench.metrics import default_metrics, metric_id

    quiet_libraries()
    if prior or metrics:
        names = [metric_id(name, registry.split_prior(prior or "")[0]) for name in metrics]
        yield from _asked(prior, names)
        return
    yield _model("prior", registry.WORLD, _try_prior)
    for name in default_metrics(registry.WORLD):
        yield _model("metric", name, _try_metric)
    yield from _fetched()


def _asked(prior: str | None, names: list[str]) -> Iterator[Check]:
    """Every missing or wrong file of the entries that these need; what is complete is tried."""
    from psdbench import registry, weights
    from psdbench.cli.prefetch import needed_weights
    from psdbench.metrics import weights_of

    entries = weights.with_needs(needed_weights(prior, names))
    found = {entry.name: weights.problems(entry, thorough=True) for entry in entries}
    command = weights.fetch_command(entry for entry in entries if found[entry.name])
    for entry in entries:
        for path, what in found[entry.name].items():
            yield Check(f"{entry.kind} {entry.name}", "missing", f"{path} {what}", command)
    if prior and not found.get(registry.split_prior(prior)[0]):
        yield _model("prior", prior, _try_prior)
    for name in names:
        if not any(found[entry.name] for entry in weights.with_needs(weights_of([name]))):
            yield _model("metric", name, _try_metric)


def _fetched() -> Iterator[Check]:
    """Which official weights are here, without reading them."""
    from psdbench import weights

    for entry in weights.catalogue().values():
        wrong = weights.problems(entry)
        if not wrong:
            yield Check(f"{entry.kind} {entry.name}", "ok", f"{weights.folder(entry.name)} is complete")
            continue
        gone = all(what == "is missing" for what in wrong.values()) and len(wrong) == len(entry.files)
        finding = "not fetched" if gone else "; ".join(f"{path} {what}" for path, what in wrong.items())
        yield Check(f"{entry.kind} {entry.name}", "optional", finding, weights.fetch_command([entry]))


def _try_prior(name: str) -> str:
    """Denoise once, and see that it predicts what it says; the sha256 of the prior's files."""
    from psdbench import registry
    from psdbench.priors.diffusers import DiffusersPrior
    from psdbench.priors.probe import check_prediction

    base, lora = registry.split_prior(name)
    ref = registry.prior_ref(base)
    prior = registry.load_prior(ref, "cpu", registry.lora_ref(lora, ref) if lora else None)
    assert isinstance(prior, DiffusersPrior)
    check_prediction(prior, 64 // prior.latent_scale)
    return ref.sha256


def _try_metric(name: str) -> str:
    """Score a grey picture; the sha256 of the scorer's files."""
    import torch

    from psdbench.camera_config import CameraConfig
    from psdbench.cameras import orbit
    from psdbench.scorers import load_scorer

    scorer = load_scorer(name)
    scorer.score(torch.full((1, 3, 64, 64), 0.5), [PROBE], orbit(1, 15, CameraConfig()))
    return scorer.sha256


def _model(kind: str, name: str, use: Callable[[str], str]) -> Check:
    from psdbench.registry import GET_WEIGHTS

    try:
        return Check(f"{kind} {name}", "ok", f"sha256 {use(name)[:16]}")
    except Exception as error:  # whatever it is that a run would die of
        finding = f"{type(error).__name__}: {error}" if not isinstance(error, PsdbenchError) else str(error)
        return Check(f"{kind} {name}", "missing", finding, GET_WEIGHTS)


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", version)[:3])
