"""The Ray launcher on a real Ray: same bytes as the local one, also when an actor dies or we are told to stop."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from disturbed import Disturbed, results

from psdbench.errors import EnvironmentProblem, Interrupted
from psdbench.launch.options import RayOptions
from psdbench.launch.ray import RayRun

pytestmark = [pytest.mark.cluster, pytest.mark.usefixtures("on_ray")]


def ray_run(address: str | None = None) -> RayRun:
    return RayRun(RayOptions(address=address, cpus=1), 1, "cpu")


@pytest.fixture
def cluster(on_ray: None) -> Iterator[str]:
    """The address of a Ray that was started by `ray start`, on this machine's loopback alone."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    program = [sys.executable, "-m", "ray.scripts.scripts"]
    start = ["start", "--head", "--node-ip-address=127.0.0.1", f"--port={port}", "--num-cpus=2"]
    quiet = ["--include-dashboard=false", "--object-store-memory=100000000", "--disable-usage-stats"]
    head = subprocess.Popen([*program, *start, *quiet, "--block"], stdout=subprocess.DEVNULL)
    yield f"127.0.0.1:{port}"
    head.terminate()  # with --block it takes its own processes along; `ray stop` would take everybody's
    head.wait(timeout=120)


def kill_actor() -> None:
    """SIGKILL to the process that has a JobActor."""
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        if path.read_bytes().startswith(b"ray::JobActor"):
            os.kill(int(path.parent.name), signal.SIGKILL)


def test_a_dead_actor_is_replaced_and_the_rest_is_as_it_was(
    disturbed: Disturbed, undisturbed: list[bytes]
) -> None:
    thread = disturbed.by(kill_actor)
    outcomes = ray_run().run(disturbed.tasks, disturbed.report)
    thread.join()
    disturbed.assert_unharmed(undisturbed)
    assert [outcome.fresh for outcome in outcomes] == [True] * 2
    assert sum("its actor died" in note for note in disturbed.notes) == 1


def test_a_signal_leaves_checkpoints_and_a_cluster_goes_on(
    disturbed: Disturbed, undisturbed: list[bytes], cluster: str
) -> None:
    """First on the cluster, until SIGTERM; then there again, until the end."""
    thread = disturbed.by(lambda: os.kill(os.getpid(), signal.SIGTERM))
    with pytest.raises(Interrupted):
        retried(cluster).run(disturbed.tasks, disturbed.report)
    thread.join()
    ray_run(cluster).run(disturbed.tasks, disturbed.report)
    disturbed.assert_unharmed(undisturbed)
    assert results(disturbed.tasks) == undisturbed


def retried(cluster: str) -> RayRun:
    """A run on a cluster that is up: wait until it answers."""
    import time

    import ray

    for _ in range(60):
        try:
            ray.init(address=cluster, log_to_driver=False)
        except (ConnectionError, RuntimeError, ValueError):
            time.sleep(1)
        else:
            ray.shutdown()
            return ray_run(cluster)
    raise TimeoutError(cluster)


def test_no_cluster_is_one_line(disturbed: Disturbed) -> None:
    with pytest.raises(EnvironmentProblem, match=r"no Ray at 127\.0\.0\.1:1") as caught:
        ray_run("127.0.0.1:1").run(disturbed.tasks, disturbed.report)
    assert "ray start --head" in caught.value.remedy
