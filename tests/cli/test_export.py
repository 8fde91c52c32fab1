"""A run with each representation, its assets exported, and a run that starts from what was exported."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from commands import refusal

SMALL = {
    "voxels": [],
    "hashgrid": ["levels=2", "table_size_log2=8", "hidden=8", "samples=16", "occupancy=8"],
    "gaussians": ["count=40", "densify_every=1"],
}


def options(name: str, small: list[object]) -> list[object]:
    """The small run with one prompt, of that representation."""
    Path(str(small[small.index("--prompts") + 1])).write_text("a red cube\n")
    small[small.index("--metrics") + 1] = "none"
    given = [part for value in SMALL[name] for part in ("--set", f"{name}.{value}")]
    return [*small, "--representation", name, *given]


def only_job(run: Path) -> Path:
    (job,) = (run / "jobs").iterdir()
    return job


@pytest.mark.parametrize("name", SMALL)
def test_the_asset_of_a_run_becomes_a_mesh_or_splats(
    name: str, program: Callable, small: list[object], tmp_path: Path
) -> None:
    pytest.importorskip("skimage")
    plyfile, trimesh = pytest.importorskip("plyfile"), pytest.importorskip("trimesh")
    assert program("run", *options(name, small)).code == 0
    job = only_job(tmp_path / "run")
    done = program("export", job, "--format", "glb", "--resolution", 24, "--level", 1)
    assert (done.code, done.out.strip()) == (0, str(job / "asset.glb"))
    assert len(trimesh.load_scene(job / "asset.glb").to_geometry().faces) > 50
    assert program("export", job, "-f", "ply", "--out", tmp_path / "a.ply", "--level", 1).code == 0
    names = plyfile.PlyData.read(str(tmp_path / "a.ply"))["vertex"].data.dtype.names
    assert ("f_dc_0" in names) == (name == "gaussians")


def test_a_run_starts_from_a_file_and_knows_it_by_its_content(
    program: Callable, small: list[object], tmp_path: Path
) -> None:
    pytest.importorskip("plyfile")
    pytest.importorskip("scipy")
    trimesh = pytest.importorskip("trimesh")
    trimesh.creation.icosphere(radius=0.5).export(tmp_path / "ball.ply")
    arguments = options("voxels", small)
    assert program("run", *arguments, "--init", tmp_path / "ball.ply").code == 0
    (tmp_path / "ball.ply").rename(tmp_path / "other.ply")
    done = program("run", *arguments, "--init", tmp_path / "other.ply")
    assert "1 of 1 jobs were finished before" in done.err
    plain = program("run", *arguments)
    assert "has 1 jobs of another protocol" in plain.err
    missing = program("run", *arguments, "--init", tmp_path / "ball.ply")
    assert missing.code == 2
    assert "no such file" in missing.err


def test_several_jobs_become_videos_of_any_size(
    program: Callable, small: list[object], tmp_path: Path
) -> None:
    import imageio_ffmpeg

    small[small.index("--metrics") + 1] = "none"
    program("run", *small, "--set", "evaluate.turntable_frames=3")
    jobs = sorted((tmp_path / "run" / "jobs").iterdir())
    done = program("export", *jobs, "--format", "mp4", "--size", 48)
    assert (done.code, done.out.split()) == (0, [str(job / "asset.mp4") for job in jobs])
    for job in jobs:
        assert next(imageio_ffmpeg.read_frames(str(job / "asset.mp4")))["size"] == (48, 48)
    assert "--out is one file" in refusal(program("export", *jobs, "--out", tmp_path / "one.mp4"))[0]


def test_what_is_no_finished_job_is_refused(program: Callable, small: list[object], tmp_path: Path) -> None:
    error, remedy = refusal(program("export", tmp_path))
    assert "is not the folder of a job" in error
    assert "RUN/jobs/*" in remedy
    program("run", *options("voxels", small))
    job = only_job(tmp_path / "run")
    (job / "asset.safetensors").unlink()
    assert "is not finished" in refusal(program("export", job))[0]


def test_what_has_no_surface_is_said_in_one_line(
    program: Callable, small: list[object], tmp_path: Path
) -> None:
    pytest.importorskip("skimage")
    pytest.importorskip("trimesh")
    program("run", *options("voxels", small))
    done = program("export", only_job(tmp_path / "run"), "--level", 1e9)
    assert done.code == 2
    assert "pass a lower --level" in done.err
