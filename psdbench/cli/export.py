"""`psdbench export`: the assets of finished jobs as files that other programs read."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from psdbench.cli.output import say
from psdbench.errors import UsageError
from psdbench.export import MESH_RESOLUTION

if TYPE_CHECKING:
    from psdbench.config import JobSpec
    from psdbench.representations import Representation


class Format(StrEnum):
    """What can be written."""

    glb = "glb"
    ply = "ply"
    mp4 = "mp4"


def export(
    jobs: Annotated[list[Path], typer.Argument(help="Folders of finished jobs.", show_default=False)],
    format: Annotated[
        Format, typer.Option("--format", "-f", help="glb: mesh; ply: splats of gaussians, else mesh; mp4.")
    ] = Format.glb,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out", "-o", help="File to write, for one job. [JOB/asset.FORMAT]", show_default=False
        ),
    ] = None,
    resolution: Annotated[
        int, typer.Option(help="Cells along an edge of the cube, for a mesh.", min=8, max=1024)
    ] = MESH_RESOLUTION,
    level: Annotated[
        float | None,
        typer.Option(
            help="Extinction per world unit at a mesh's surface. [10; gaussians 2]", show_default=False
        ),
    ] = None,
    size: Annotated[int, typer.Option(help="Side of a frame in pixels, for mp4.", min=16, max=2048)] = 256,
) -> None:
    """Write assets as meshes with vertex colours, as splats, or as turntable videos of any size.

    Example:  psdbench export results/mine/jobs/sds--a-red-cube--s0--1f3a9c02 --format glb
    """
    if out and len(jobs) > 1:
        raise UsageError(f"--out is one file, and there are {len(jobs)} jobs", "leave --out away")
    for job in jobs:
        spec, asset = _read(job)
        path = out or job / f"asset.{format.value}"
        if format is Format.mp4:
            _write_video(path, spec, asset, size)
        else:
            _write_shape(path, asset, format, resolution, level)
        say(f"{path}: {path.stat().st_size / 2**20:.1f} MB")
        print(path)


def _read(job: Path) -> tuple[JobSpec, Representation]:
    """A job and its asset; UsageError for what is no finished job of psdbench's own."""
    from psdbench.optimizer.particles import ASSET, load_asset
    from psdbench.store.run import JOB, read_job

    if not (job / JOB).is_file():
        raise UsageError(f"{job} is not the folder of a job", "give one or more of RUN/jobs/*")
    spec = read_job(job)
    if spec.foreign:
        raise UsageError(f"{job} has renders only, made elsewhere", "export from the program that made them")
    if not (job / ASSET).is_file():
        raise UsageError(f"{job} is not finished: it has no {ASSET}", "finish it with psdbench run")
    return spec, load_asset(spec, job / ASSET)


def _write_video(path: Path, spec: JobSpec, asset: Representation, size: int) -> None:
    """The turntable of the job folder, rendered at that size where the folder's is enlarged."""
    from psdbench.export.turntable import write_turntable

    protocol = spec.protocol
    frames = protocol.evaluate.turntable_frames
    write_turntable(path, asset, protocol.cameras, size=size, frames=frames, scale=1)


def _write_shape(
    path: Path, asset: Representation, format: Format, resolution: int, level: float | None
) -> None:
    from psdbench.export.mesh import extract_mesh, write_glb, write_ply
    from psdbench.export.splats import write_splats
    from psdbench.representations.gaussians import Gaussians

    if format is Format.ply and isinstance(asset, Gaussians):
        write_splats(path, asset)
    else:
        mesh = extract_mesh(asset, resolution, level)
        (write_glb if format is Format.glb else write_ply)(path, mesh)
