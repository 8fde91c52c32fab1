"""`psdbench plan`: what `run` with the same arguments would do, and what it would cost."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict

from psdbench.cli import options as o
from psdbench.cli.output import duration, print_columns, print_json, say


def plan(
    methods: o.Methods = None,
    prompts: o.Prompts = None,
    seeds: o.Seeds = None,
    prior: o.Prior = None,
    representation: o.Representation = None,
    init: o.Init = None,
    steps: o.Steps = None,
    budget: o.Budget = None,
    grad_norm: o.GradNorm = None,
    reward: o.Reward = None,
    metrics: o.Metrics = None,
    negative_prompt: o.NegativePrompt = None,
    set_: o.Set = None,
    config: o.Config = None,
    device: o.Device = None,
    dtype: o.Dtype = None,
    workers: o.Workers = None,
    pack: o.Pack = None,
    memory: o.Memory = None,
    launcher: o.Launcher = None,
    slurm: o.Slurm = None,
    ray: o.Ray = None,
    max_time: o.MaxTime = None,
    track: o.Track = None,
    keep_checkpoints: o.KeepCheckpoints = None,
    snapshots: o.Snapshots = None,
    plugin: o.Plugin = None,
    out: o.Out = None,
    json: o.Json = False,
    quiet: o.Quiet = False,
) -> int:
    """Show what run would do with the same arguments: jobs, time, disk and memory. Computes nothing.

    Exit code 4 when the memory would not do: run refuses such a plan.
    """
    settings = o.gather(locals())
    from psdbench.budget import Budget
    from psdbench.plan import make_plan
    from psdbench.plan.forecast import forecast
    from psdbench.plan.preflight import look_for_room

    made = make_plan(settings)
    room = look_for_room(made, settings)
    count = room.workers
    need = forecast(made.jobs, made.out, count, settings.snapshots, room.worker_mb)
    for note in () if quiet else made.notes:
        say(f"note: {note}")
    if json:
        names = [spec.folder_name for spec in made.jobs]
        facts = {"run": str(made.out), "protocol": made.protocol.hash, "metrics": made.metrics}
        expected = {"workers": count, "forecast": asdict(need), "memory": asdict(room)}
        print_json({**facts, **expected, "jobs": names})
        room.check()
        return 0
    per_method = Counter(spec.label for spec in made.jobs)
    prior_ref, reward_ref = made.protocol.prior, made.protocol.reward
    time = (
        "unknown before the first job" if need.seconds is None else f"{duration(need.seconds)} ({need.basis})"
    )
    lengths = ", ".join(f"{name}: {'unknown' if n is None else n} steps" for name, n in need.steps.items())
    print_columns(
        [
            ("folder", str(made.out)),
            ("protocol", made.protocol.hash[:12]),
            ("prior", f"{prior_ref.name} {prior_ref.sha256[:12]} on {made.protocol.device}"),
            ("reward", f"{reward_ref.id} {reward_ref.sha256[:12]}" if reward_ref else "none"),
            ("metrics", ", ".join(made.metrics) or "none"),
            ("length", f"{Budget.of(made.protocol.optimize)} a job ({lengths})"),
            ("jobs", ", ".join(f"{n} {method}" for method, n in per_method.items())),
            ("left", f"{need.left} of {need.jobs}"),
            ("time", time),
            ("disk", f"{need.disk_mb:.0f} MB"),
            ("memory", room.sentence),
        ]
    )
    room.check()
    return 0
