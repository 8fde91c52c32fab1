"""Renders made elsewhere as jobs of a run: taken over as they are, scored like our own, marked in every report.

Their job has no optimisation stage; the render stage copies the pictures. Their optimizer, steps, cameras and
representation are not those of the other jobs, so a report says of them: optimizer not shared.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from psdbench.config import CameraConfig, EvaluateConfig, ForeignRef, JobSpec, PriorRef, Protocol
from psdbench.errors import EnvironmentProblem, UsageError
from psdbench.foreign.folders import Asset
from psdbench.store.digest import sha256_file

if TYPE_CHECKING:
    from torch import Tensor

    from psdbench.cameras import Cameras

VIEWS = 8
"""views that are scored, evenly spread over those there are"""
PRIOR = PriorRef("unknown", "")
FLAT = 2 / 255
"""largest difference between pixels at which a picture is one flat colour: no object, often a failed render"""
GREY = 8 / 255
"""largest difference between channels at which a panel is grey, as threestudio's opacity is"""


def foreign_job(asset: Asset, views: int = VIEWS) -> JobSpec:
    """The job of an asset: what is scored are `views` of its pictures, by their content.

    Raises UsageError when a picture cannot be read or is not square.
    """
    files = spread(asset.files, views)
    size, _ = _side(files[0], asset.layout)
    oriented = asset.elevation is not None
    cameras = CameraConfig(rig_views=len(files), rig_elevation=asset.elevation or 0.0)
    protocol = Protocol(PRIOR, representation="unknown", cameras=cameras, evaluate=EvaluateConfig(size=size))
    places = tuple(str(path.resolve()) for path in files)
    source = ForeignRef(_content(files), asset.layout, oriented, places)
    return JobSpec(asset.prompt, asset.method, {}, asset.seed, protocol, foreign=source)


def spread(files: Sequence[Path], views: int) -> list[Path]:
    """At most so many files, evenly spread, the first always among them."""
    count = min(views, len(files))
    return [files[index * len(files) // count] for index in range(count)]


def rig(spec: JobSpec) -> Cameras | None:
    """The cameras of a job's stored views; None where nobody knows how those made elsewhere stood."""
    from psdbench.cameras import evaluation_rig, orbit

    cameras = spec.protocol.cameras
    if not spec.foreign:
        return evaluation_rig(cameras)
    return orbit(cameras.rig_views, cameras.rig_elevation, cameras) if spec.foreign.oriented else None


def take_over(spec: JobSpec, folder: Path) -> list[str]:
    """Write the views of a foreign job into its folder, over white, with their opacity where the source has it.

    Raises EnvironmentProblem when the source is gone or has changed, UsageError for a picture that shows one
    flat colour: a failed render must not be scored as if it were a result.
    """
    import torch

    from psdbench.export.turntable import to_picture
    from psdbench.job.evaluate import write_geometry, write_pictures
    from psdbench.store.table import GEOMETRY

    assert spec.foreign is not None  # the caller asks only for such jobs
    files = [Path(name) for name in spec.foreign.files]
    if _content(files) != spec.foreign.sha256:
        raise EnvironmentProblem(
            f"the renders of {folder.name} are not those that were taken over: {files[0].parent}",
            "restore them, or score their folder again: it makes new jobs of the present ones",
        )
    views = [_view(path, spec.foreign.layout) for path in files]
    for path, (image, _) in zip(files, views, strict=True):
        if float(image.amax((1, 2)).sub(image.amin((1, 2))).max()) <= FLAT:
            raise UsageError(f"{path} is one flat colour: nothing to score", "render the asset again")
    names = write_pictures(folder, [to_picture(image) for image, _ in views])
    opacities = [opacity for _, opacity in views if opacity is not None]
    if len(opacities) == len(views):
        write_geometry(folder, torch.stack(opacities))
        names.append(GEOMETRY)
    return names


def _content(files: Sequence[Path]) -> str:
    """The hash of files in their order; empty when one is gone."""
    if not all(path.is_file() for path in files):
        return ""
    return hashlib.sha256("\n".join(map(_sha256, files)).encode()).hexdigest()


def _sha256(path: Path) -> str:
    try:
        return sha256_file(path)
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror or error}", "restore the picture") from error


def _view(path: Path, layout: str) -> tuple[Tensor, Tensor | None]:
    """A picture [3, S, S] in [0, 1] and its opacity [1, S, S]: of its alpha channel, or of threestudio's last panel."""
    import torch
    from PIL import Image

    from psdbench.scorers.pictures import read_picture

    side, panels = _side(path, layout)
    image = read_picture(path)
    if panels > 1:
        last = image[:, :, -side:]
        grey = float((last.amax(0) - last.amin(0)).max()) <= GREY
        return image[:, :, :side], last.mean(0, keepdim=True) if grey else None
    with Image.open(path) as picture:
        if "A" not in picture.getbands():
            return image, None
        alpha = torch.frombuffer(bytearray(picture.getchannel("A").tobytes()), dtype=torch.uint8)
    return image, alpha.view(1, side, side).float() / 255


def _side(path: Path, layout: str) -> tuple[int, int]:
    """Side of a view in pixels, and how many square panels stand beside each other in its file.

    Raises UsageError for a file that is no picture, or whose view is not square: our cameras have square pixels
    and pictures, and stretching or cutting would change what is scored.
    """
    from PIL import Image

    try:
        with Image.open(path) as picture:
            width, height = picture.size
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise UsageError(f"{path} cannot be read as a picture: {error}", "render the asset again") from error
    panels, rest = divmod(width, height)
    if rest or panels < 1 or (panels > 1 and layout != "threestudio"):
        raise UsageError(f"{path} is {width} x {height} pixels, not square", "render square views")
    return height, panels
