"""`psdbench export`: the asset of a finished job as a file that other programs read."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from psdbench.cli.output import say

if TYPE_CHECKING:
    from psdbench.config import JobSpec
    from psdbench.representations import Representation


class Format(StrEnum):
    """What can be written."""

    glb = "glb"
    ply = "ply"
    mp4 = "mp4"


def export(
    job: Annotated[Path, typer.Argument(help="The folder of a finished job.", show_default=False)],
    format: Annotated[
        Format, typer.Option("--format", "-f", help="glb: mesh; ply: splats of gaussians, else mesh; mp4.")
    ] = Format.glb,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="File to write. [JOB/asset.FORMAT]", show_default=False)
    ] = None,
    resolution: Annotated[int, typer.Option(help="Cells along an edge for the mesh.", min=8, max=1024)] = 96,
    level: Annotated[float, typer.Option(help="Extinction per world unit at the mesh's surface.")] = 10.0,
) -> None:
    """Write the asset of a finished job as a mesh with vertex colours, as splats, or as a turntable video.

    Example:  psdbench export results/mine/jobs/sds--a-red-cube--s0--1f3a9c02 --format glb
    """
    from psdbench.particles import ASSET, load_asset
    from psdbench.store.run import read_job

    spec = read_job(job)
    asset = load_asset(spec, job / ASSET)
    path = out or job / f"asset.{format.value}"
    write(path, asset, spec, format, resolution, level)
    say(f"{path}: {path.stat().st_size / 2**20:.1f} MB")
    print(path)


def write(
    path: Path, asset: Representation, spec: JobSpec, format: Format, resolution: int, level: float
) -> None:
    """Write the file; UsageError where the asset has no surface at that level."""
    from psdbench.export.mesh import extract_mesh, write_glb, write_ply
    from psdbench.export.splats import write_splats
    from psdbench.export.turntable import write_turntable
    from psdbench.representations.gaussians import Gaussians

    if format is Format.mp4:
        evaluate = spec.protocol.evaluate
        frames, scale = evaluate.turntable_frames, evaluate.turntable_scale
        write_turntable(path, asset, spec.protocol.cameras, size=evaluate.size, frames=frames, scale=scale)
    elif format is Format.ply and isinstance(asset, Gaussians):
        write_splats(path, asset)
    else:
        mesh = extract_mesh(asset, resolution, level)
        (write_glb if format is Format.glb else write_ply)(path, mesh)
