"""Options of launchers: what is understood, and what is refused with the nearest name."""

from __future__ import annotations

from pathlib import Path

import pytest

from psdbench.errors import UsageError
from psdbench.launch.options import RayOptions, SlurmOptions, launch_options, parse_time, refuse_idle_options
from psdbench.settings import RunConfig, resolve


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("90s", 90),
        ("30m", 1800),
        ("8h", 28800),
        ("1h30m", 5400),
        ("2d", 172800),
        ("8:00:00", 28800),
        ("8:30", 30600),
        ("1-12:00:00", 129600),
        (" 45m ", 2700),
    ],
)
def test_times(text: str, seconds: float) -> None:
    assert parse_time(text) == seconds


@pytest.mark.parametrize("text", ["", "0s", "90", "soon", "-1h", "1h-", "1:2:3", "30m8h", "1.5h"])
def test_what_is_no_time(text: str) -> None:
    with pytest.raises(UsageError, match="is no time") as caught:
        parse_time(text)
    assert "30m" in caught.value.remedy


def test_options_have_the_types_of_their_fields() -> None:
    given = ["partition=gpu", "time=1-00:00", "gpus=2", "mem=7.5", "jobs=4"]
    expected = SlurmOptions(partition="gpu", time="1-00:00", gpus=2, mem=7.5, jobs=4)
    assert launch_options("slurm", given, ()) == expected
    assert launch_options("ray", (), ["address=auto", "gpus=0.25"]) == RayOptions("auto", 0.25)
    assert launch_options("local", (), ()) is None


@pytest.mark.parametrize(
    ("launcher", "slurm", "ray", "message", "remedy"),
    [
        ("slrum", [], [], "unknown launcher 'slrum'", "did you mean 'slurm'?"),
        ("local", ["gpus=many"], [], "--slurm gpus must be a whole number, not 'many'", ""),
        ("slurm", ["partiton=gpu"], [], "unknown parameter 'partiton' in --slurm", "'partition'"),
        ("slurm", ["gpu"], [], "--slurm 'gpu' is not KEY=VALUE", "partition"),
        ("slurm", ["gpus=many"], [], "--slurm gpus must be a whole number, not 'many'", ""),
        ("slurm", ["jobs=0"], [], "jobs must be at least 1", ""),
        ("slurm", ["time=2m"], [], "more than notice", ""),
        ("slurm", ["time=ages"], [], "'ages' is no time", ""),
    ],
)
def test_what_is_refused(launcher: str, slurm: list[str], ray: list[str], message: str, remedy: str) -> None:
    with pytest.raises(UsageError) as caught:
        launch_options(launcher, slurm, ray)
    assert message in str(caught.value)
    assert remedy in caught.value.remedy
    with pytest.raises((UsageError, ValueError)):
        RunConfig(launcher=launcher, slurm=tuple(slurm), ray=tuple(ray))


def test_options_of_another_launcher_are_refused_on_the_command_line_only(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="--slurm is for --launcher slurm") as caught:
        refuse_idle_options("local", {"slurm": ["time=8h"]})
    assert "add --launcher slurm" in caught.value.remedy
    refuse_idle_options("ray", {"ray": ["gpus=1"], "slurm": None})
    (tmp_path / "run.toml").write_text('slurm = "partition=gpu,time=8h"\n')
    assert resolve({}, tmp_path / "run.toml").slurm == ("partition=gpu", "time=8h")


def test_they_come_from_the_command_line_like_other_lists() -> None:
    given = {"launcher": "slurm", "slurm": ["partition=gpu,time=8h", "gpus=1"], "max_time": "30m"}
    config = resolve(given, None)
    assert config.slurm == ("partition=gpu", "time=8h", "gpus=1")
    assert config.max_time == "30m"
