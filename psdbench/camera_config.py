"""How cameras are chosen, and what views are called: what a protocol says of them, without what computes them."""

from __future__ import annotations

from dataclasses import dataclass, field

from psdbench.identity import UNLESS_DEFAULT

VIEW_NAMES = {
    4: ("front view", "side view", "back view", "side view"),
    8: ("front view", "front right view", "right side view", "back right view",
        "back view", "back left view", "left side view", "front left view"),
}  # fmt: skip
"""how many ranges of azimuth have a name → the names, counter-clockwise from the front. Four are DreamFusion's
(arXiv 2209.14988, section 3.2); they leave a cube's corner anywhere in the picture, so eight draw sharper edges"""


@dataclass(frozen=True)
class CameraConfig:
    """How training cameras are drawn and where the evaluation cameras stand."""

    distance_min: float = 2.5
    """nearest training distance from the origin, world units"""
    distance_max: float = 2.7
    """farthest training distance from the origin, world units"""
    relative_distance: bool = field(default=False, metadata=UNLESS_DEFAULT)
    """training distances in units of 1/tan(fov/2), so that an object keeps its size in the picture (MVDream)"""
    elevation_min: float = 0.0
    """lowest training elevation, degrees"""
    elevation_max: float = 30.0
    """highest training elevation, degrees (but for the overhead share)"""
    overhead_share: float = 0.1
    """share of training views taken from above"""
    overhead_elevation_min: float = 62.0
    """lowest elevation of an overhead view, degrees"""
    overhead_elevation_max: float = 82.0
    """highest elevation of an overhead view, degrees"""
    fov: float = 45.0
    """vertical field of view, degrees"""
    fov_min: float | None = field(default=None, metadata=UNLESS_DEFAULT)
    """narrowest field of view in training, degrees; with fov_max, else it is fov"""
    fov_max: float | None = field(default=None, metadata=UNLESS_DEFAULT)
    """widest field of view in training, degrees"""
    named_azimuths: int = 8
    """ranges of azimuth that a prompt tells apart: 4 (front, side, back: DreamFusion's), 8 (also left and right), or
    0, no view words at all, for priors that see the camera itself"""
    rig_views: int = 8
    """evaluation views on a circle, from azimuth 0 on"""
    rig_elevation: float = 15.0
    """elevation of that circle, degrees"""
    rig_overhead_elevation: float = 72.0
    """elevation of the one evaluation view from above, degrees"""
    rig_distance: float = 2.6
    """distance of the evaluation cameras, world units"""

    def __post_init__(self) -> None:
        if self.named_azimuths not in (0, *VIEW_NAMES):
            raise ValueError(f"named_azimuths must be 0, 4 or 8, not {self.named_azimuths}")
        if (self.fov_min is None) != (self.fov_max is None):
            raise ValueError("fov_min and fov_max belong together")
        if self.fov_min is not None and not 0 < self.fov_min <= (self.fov_max or 0) < 180:
            raise ValueError("need 0 < fov_min <= fov_max < 180")
