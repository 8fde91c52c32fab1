"""What determines a result: frozen dataclasses, with their identity as canonical JSON and sha256.

A job is prompt x method x seed under a protocol; the protocol is everything else. Fields marked as not part
of the identity (where a folder lies on this machine, how often a checkpoint is written) change no result.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal

from psdbench.camera_config import CameraConfig
from psdbench.identity import NOT_IDENTITY, UNLESS_DEFAULT, canonical_json, digest, identity, slug, stored
from psdbench.ramps import check_schedules

__all__ = [
    "CameraConfig",
    "EvaluateConfig",
    "ForeignRef",
    "InitRef",
    "JobSpec",
    "LoraRef",
    "OptimizeConfig",
    "PluginRef",
    "PriorRef",
    "Protocol",
    "ScorerRef",
    "canonical_json",
    "digest",
    "identity",
    "slug",
    "stored",
]

PROTOCOL_VERSION = 1
"""raised whenever the meaning of an unchanged configuration changes, so that old results are not mixed in"""


@dataclass(frozen=True)
class OptimizeConfig:
    """The shared 3D optimizer: the same for every method of a comparison."""

    steps: int = 300
    """optimisation steps, one render set and one method gradient each; without effect under a budget"""
    nfe: int | None = field(default=None, metadata=UNLESS_DEFAULT)
    """budget of denoiser forwards, each image counting: a job ends after the first step that reaches it"""
    seconds: float | None = field(default=None, metadata=UNLESS_DEFAULT)
    """budget of optimisation time; another machine or another load gives other results"""
    particles: int = field(default=1, metadata=UNLESS_DEFAULT)
    """assets of a job that share the method's state; each step moves one, so that each gets steps/particles of
    them, and the first is rendered and scored; ProlificDreamer has 1 or 4, with 25 000 steps for each"""
    views: int = 1
    """cameras per step, drawn stratified over the circle"""
    size: int = 64
    """side of the picture that the prior is given, pixels: its native size, and that of a training render"""
    density_learning_rate: float = 0.2
    """Adam's step for the density of voxels, at the start; other representations have rates of their own"""
    colour_learning_rate: float = 0.1
    """Adam's step for the colours of voxels, at the start"""
    learning_rate_end: float = 0.1
    """Adam's last step as a share of its first, a cosine between them; 1 keeps it constant"""
    adam_beta1: float = 0.9
    """decay of Adam's first moment"""
    adam_beta2: float = 0.99
    """decay of Adam's second moment"""
    timestep_min: float = 0.02
    """smallest diffusion time, as a share of the prior's steps"""
    timestep_max_start: float = 0.98
    """largest diffusion time at the first step, as a share of the prior's steps"""
    timestep_max_end: float = 0.7
    """largest diffusion time at the last step; in between it falls linearly"""
    timestep_min_start: float | None = field(default=None, metadata=UNLESS_DEFAULT)
    """smallest diffusion time at the first step, from which it falls to timestep_min; none: it does not"""
    timestep_anneal: float = field(default=1.0, metadata=UNLESS_DEFAULT)
    """share of the run after which both bounds stay where they end"""
    perp_neg: float = field(default=0.0, metadata=UNLESS_DEFAULT)
    """weight with which guidance repels the prompts of other views (Perp-Neg, arXiv 2304.04968), 0 for none;
    stable-dreamfusion has 2. Twice the denoiser forwards. Only in classifier-free guidance: CSD and NFSD have none"""
    opacity_weight: float = 0.1
    """weight of the penalty on mean opacity (clears fog)"""
    entropy_weight: float = 0.0
    """weight of the penalty on opacities that are neither 0 nor 1"""
    smoothness_weight: float = 0.0
    """weight of the total variation of the density"""
    orientation_weight: float = field(default=0.0, metadata=UNLESS_DEFAULT)
    """weight of the penalty on normals that face away from the camera"""
    depth_variance_weight: float = field(default=0.0, metadata=UNLESS_DEFAULT)
    """weight of the variance of the depth in opaque pixels, world units squared (draws density into a surface)"""
    penalty_schedule: tuple[str, ...] = field(default=(), metadata=UNLESS_DEFAULT)
    """factors of these weights over the run, linear between points NAME@PROGRESS:FACTOR, such as entropy@0.5:0"""
    size_schedule: tuple[str, ...] = field(default=(), metadata=UNLESS_DEFAULT)
    """sides of the render over the run as PROGRESS:SIDE, such as 0:32,0.3:64, at most `size`, to which they are
    enlarged for the prior"""
    grad_norm: Literal["none", "unit", "clip"] = field(default="none", metadata=UNLESS_DEFAULT)
    """scale of a method's gradient G on the latents: its own, a root mean square of 1, or at most grad_clip"""
    grad_clip: float = field(default=1.0, metadata={"identity": lambda config: config.grad_norm == "clip"})
    """largest root mean square of G under grad_norm clip, else without effect; 1 is that of the noise itself"""
    empty_opacity: float = 0.005
    """a scene whose mean opacity stays below this share counts as empty"""
    empty_steps: int = 30
    """steps in a row with an empty scene after which the job ends as diverged"""
    memory_rung: int = field(default=0, metadata=NOT_IDENTITY)
    """rung of the memory ladder that a job starts on: 1 takes views one by one and renders and encodes them twice, 2
    also computes activations of encoder and denoiser again; a job climbs by itself where memory runs out"""
    checkpoint_every: int = field(default=50, metadata=NOT_IDENTITY)
    """steps between two checkpoints; a killed run loses at most so many"""

    def __post_init__(self) -> None:
        _require(self.steps > 0, "steps must be at least 1")
        _require(self.particles > 0, "particles must be at least 1")
        bought = self.nfe is not None or self.seconds is not None
        _require(bought or self.particles <= self.steps, "more particles than steps: some would have none")
        _require(self.views > 0, "views must be at least 1")
        _require(self.size > 0 and self.size % 8 == 0, "size must be a positive multiple of 8")
        _require(0 <= self.learning_rate_end <= 1, "optimize.learning_rate_end must lie between 0 and 1")
        _require(0 <= self.memory_rung <= 2, "optimize.memory_rung must be 0, 1 or 2")
        _require(self.checkpoint_every > 0, "checkpoint_every must be at least 1")
        _require(self.perp_neg >= 0, "optimize.perp_neg must be at least 0")
        _require(self.nfe is None or self.seconds is None, "a budget is either of nfe or of seconds")
        _require(self.nfe is None or self.nfe > 0, "optimize.nfe must be at least 1")
        _require(self.seconds is None or self.seconds > 0, "optimize.seconds must be positive")
        _require(self.grad_clip > 0, "optimize.grad_clip must be positive")
        times = (self.timestep_min, self.timestep_max_end, self.timestep_max_start)
        _require(
            0 < times[0] <= min(times[1:]) and max(times[1:]) <= 1,
            "need 0 < timestep_min <= timestep_max_end, timestep_max_start <= 1",
        )
        weights = {
            f.name.removesuffix("_weight") for f in dataclasses.fields(self) if f.name.endswith("_weight")
        }
        check_schedules(self.penalty_schedule, weights, self.size_schedule)


@dataclass(frozen=True)
class EvaluateConfig:
    """What is rendered from a finished asset; where the cameras stand is in CameraConfig's rig."""

    size: int = 64
    """side of an evaluation render, pixels"""
    turntable_frames: int = 24
    """frames of the turntable video"""
    turntable_scale: int = 4
    """enlargement of the video frames"""

    def __post_init__(self) -> None:
        _require(self.size > 0, "size must be at least 1")
        _require(self.turntable_frames > 0, "turntable_frames must be at least 1")
        _require(self.turntable_scale > 0, "turntable_scale must be at least 1")


@dataclass(frozen=True)
class PriorRef:
    """Which prior: its name, one sha256 over all its files, and where they lie on this machine."""

    name: str
    sha256: str
    folder: str = field(default="", metadata=NOT_IDENTITY)
    dtype: str = "float32"
    """number format of the model"""


@dataclass(frozen=True)
class LoraRef:
    """Which reward-finetuned weights a job's prior carries; all but where they lie follows from their hash."""

    sha256: str
    name: str = field(metadata=NOT_IDENTITY)
    """as in its header, for people: ``draft``"""
    reward: ScorerRef = field(metadata=NOT_IDENTITY)
    """the scorer it was trained on"""
    file: str = field(default="", metadata=NOT_IDENTITY)


@dataclass(frozen=True)
class PluginRef:
    """Where a method from outside comes from: the sha256 of its source, and the file on this machine."""

    sha256: str
    file: str = field(default="", metadata=NOT_IDENTITY)
    """what --plugin named; empty for a method of an installed package"""


@dataclass(frozen=True)
class ScorerRef:
    """Which scorer: its full id and the sha256 of its weights."""

    id: str
    sha256: str


@dataclass(frozen=True)
class ForeignRef:
    """Renders that were made elsewhere, by an optimizer that nobody here knows."""

    sha256: str
    """over the picture files that were taken, in their order"""
    layout: str
    """how they lay in their folders: plain, gpteval3d, mate3d or threestudio"""
    oriented: bool = False
    """whether the first view is known to look at the front; then the protocol's rig says where the others stand"""
    files: tuple[str, ...] = field(default=(), metadata=NOT_IDENTITY)
    """where they lie on this machine"""


@dataclass(frozen=True)
class InitRef:
    """Which mesh, point cloud or splats an asset starts from: the sha256 of the file, and where it lies."""

    sha256: str
    file: str = field(default="", metadata=NOT_IDENTITY)


@dataclass(frozen=True)
class Protocol:
    """Everything of a job but prompt, method, finetuning and seed. Only jobs of one protocol are compared."""

    prior: PriorRef
    reward: ScorerRef | None = None
    representation: str = "voxels"
    representation_params: dict[str, Any] = field(default_factory=dict)
    optimize: OptimizeConfig = field(default_factory=OptimizeConfig)
    cameras: CameraConfig = field(default_factory=CameraConfig)
    evaluate: EvaluateConfig = field(default_factory=EvaluateConfig)
    negative_prompt: str = ""
    """what the lower branch of classifier-free guidance is conditioned on"""
    init: InitRef | None = field(default=None, metadata=UNLESS_DEFAULT)
    """what the representation starts from in place of its own first content"""
    device: str = "cpu"
    """cpu or cuda: their sums round differently, so their results are not mixed"""
    protocol_version: int = PROTOCOL_VERSION

    @cached_property
    def hash(self) -> str:
        """sha256 (hex) of the canonical JSON."""
        return digest(self)


@dataclass(frozen=True)
class JobSpec:
    """One prompt, one method with all its parameters, one seed, one protocol."""

    prompt: str
    method: str
    params: dict[str, Any]
    seed: int
    protocol: Protocol
    plugin: PluginRef | None = None
    """for a method from outside"""
    lora: LoraRef | None = None
    """of a finetuned prior: what is compared, hence no part of the protocol, whose prior is the one below it"""
    foreign: ForeignRef | None = None
    """of renders made elsewhere: the method is their folder's name, the protocol knows no more than their cameras"""

    @cached_property
    def id(self) -> str:
        """sha256 (hex) of the canonical JSON, the protocol by its own hash: equal ids mean equal results."""
        parts = {"prompt": self.prompt, "method": self.method, "params": self.params, "seed": self.seed}
        parts |= {"plugin": self.plugin} if self.plugin else {}
        parts |= {"lora": self.lora} if self.lora else {}
        parts |= {"foreign": self.foreign} if self.foreign else {}
        return digest({**parts, "protocol": self.protocol.hash})

    @property
    def label(self) -> str:
        """What a table calls it: the method, with the name of the finetuned prior under it: ``sds+draft``."""
        return f"{self.method}+{self.lora.name}" if self.lora else self.method

    @property
    def folder_name(self) -> str:
        """A name for people and file systems: ``psd--a-red-cube--s0--1f3a9c02``."""
        label = slug(self.label) if self.foreign else self.label
        return f"{label}--{slug(self.prompt)}--s{self.seed}--{self.id[:8]}"


def _require(condition: bool, message: str) -> None:
    if not condition:
        raise ValueError(message)
