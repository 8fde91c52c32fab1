"""The memory of a job, predicted from shapes before anything is loaded.

A simple model, in which all that is alive at the worst moment of a step is added up:

    process        Python, torch and the model libraries; on a GPU the context of CUDA
    weights        of the prior at the run's precision (from the headers of its files), of reward and metrics
    asset          parameters, gradient and two moments of Adam, of all particles
    render         rays x samples per ray x bytes per sample, with a graph
    encoder        maps that its blocks keep for the way back, of all views
    method         its largest call (`psdbench.plan.method_cost`) of denoiser or decoder, with or without a graph

Render and encoder are those of all views on rung 0 of the memory ladder, and of one set of views from rung 1 on. Left
out is what scoring needs afterwards: images in batches through networks without a graph. Where the model was compared
with measured peaks, on CPUs, it was within a factor of 1.5 (tests/plan/test_memory.py). Finished jobs know better:
their measured peaks take its place (`psdbench.plan.preflight`).
"""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from psdbench import registry
from psdbench.config import JobSpec, OptimizeConfig, Protocol
from psdbench.priors.folder import read_config, weight_files

MB = 2**20
PROCESS_MB = {"cpu": 480.0, "cuda": 600.0}
"""measured on a CPU: 220 MB for Python and torch, the rest for diffusers, transformers and their first step"""
LOADED = {"cpu": 1.5, "cuda": 1.0}
"""memory that a prior's weights take while they are read, as a multiple of themselves: pages of the file stay beside
convolutions that are laid out anew; measured"""
BYTES = {"float32": 4, "float16": 2, "bfloat16": 2}
WEIGHT_FILES = (".safetensors", ".pt", ".pth", ".bin", ".ckpt")
VOXEL_SAMPLE = 110
"""bytes of one sample of a ray: indices and weights of four voxels, each twice, colours, distances, the way back"""
LIGHT_SAMPLE = 60
"""bytes of a sample of a hash grid where space is empty"""
DIAGONAL = 1.7
"""samples of the longest ray, as a multiple of those along an edge"""
OCCUPIED = 0.15
"""share of a hash grid's samples that its network is asked for"""
SPLATTED_PIXEL = 590.0
"""bytes of a pixel per cube root of the number of Gaussians: the more there are, the smaller they are"""
KERNEL_PIXEL = 200.0
"""bytes of a pixel where the kernels of gsplat draw"""
RESNET_MAPS, SCRATCH = 4, 1.5
"""maps that a residual block keeps for the way back (inputs of two norms and of two activations), and what its
convolutions and the allocator need beside them, as a factor"""
TINY_MAPS = 22
"""maps of full size that an AutoencoderTiny of one width keeps, measured"""
ATTENTION_MAPS = 30
"""maps that a transformer block keeps for the way back: norms, projections of two attentions, a fourfold middle"""
WORKING_MAPS = 12
"""maps that a UNet's widest moment needs without a graph, beside its skip connections"""
DECODED_MAPS = 6
"""the same for a decoder, which has no skip connections"""
DECODER_WITH_GRAPH = 1.5
"""activations of a decoder, which has a layer more in every block, in those of the encoder"""
RECOMPUTED = 0.6
"""what is left of the activations of an encoder or denoiser on rung 2"""


@dataclass(frozen=True)
class Calls:
    """The largest calls that a method makes of networks in a step: images for each view, graph or no graph."""

    denoised: int = 2
    denoised_with_graph: int = 0
    decoded: int = 0
    decoded_with_graph: int = 0
    own_scores: int = 0
    """scores that it trains on the prior's network, which then serves no other job beside it"""


def lockstep_jobs(spec: JobSpec, pack: int) -> int:
    """Jobs like this one that a worker optimises at once where packs are this large."""
    return 1 if pack > 1 and largest_calls(spec).own_scores else pack


def predict(spec: JobSpec, metrics: Sequence[str] = (), pack: int = 1) -> dict[str, float]:
    """MB that `pack` jobs in lockstep need, by the parts above; they add up to the peak of their worker."""
    protocol, folder = (
        spec.protocol,
        registry.prior_folder(spec.protocol.prior.folder or spec.protocol.prior.name),
    )
    scorers = {*metrics, *([protocol.reward.id] if protocol.reward else [])}
    weights = prior_bytes(folder, BYTES[protocol.prior.dtype]) * LOADED[protocol.device] + scorer_bytes(
        scorers
    )
    render, encoder, method = _activations(spec, folder)
    parts = {
        "process": PROCESS_MB[protocol.device] * MB,
        "weights": weights,
        "asset": pack * asset_bytes(protocol),
        "render": pack * render,
        "encoder": pack * encoder,
        "method": pack * method,
    }
    return {name: size / MB for name, size in parts.items()}


def _activations(spec: JobSpec, folder: Path) -> tuple[float, float, float]:
    """Bytes of render, encoder and the method's largest call."""
    protocol, optimize = spec.protocol, spec.protocol.optimize
    views, together = optimize.views, registry.prior_facts(str(folder)).views
    networks, calls = Networks.of(folder, BYTES[protocol.prior.dtype], optimize), largest_calls(spec)
    graphs = (
        views * calls.denoised_with_graph * networks.denoiser_with_graph,
        views * calls.decoded_with_graph * DECODER_WITH_GRAPH * networks.encoder,
    )
    if optimize.memory_rung:
        once = together * max(networks.denoiser, networks.decoder if calls.decoded else 0.0)
        return together * render_bytes(protocol), together * networks.encoder, max(once, *graphs)
    once = views * max(calls.denoised * networks.denoiser, calls.decoded * networks.decoder)
    return views * render_bytes(protocol), views * networks.encoder, max(once, *graphs)


def largest_calls(spec: JobSpec) -> Calls:
    """Of the method as it is set; those of SDS for one that cannot be run on a prior in closed form."""
    from psdbench.plan.method_cost import largest_batches

    try:
        method = registry.planned_method(spec.method, spec.plugin)(**spec.params)
        return largest_batches(method)
    except Exception:  # a method from outside may want what a closed-form prior does not have
        return Calls()


def header_elements(file: Path) -> int:
    """Numbers that a safetensors file holds, from its header."""
    with file.open("rb") as content:
        (length,) = struct.unpack("<Q", content.read(8))
        header = json.loads(content.read(length))
    return sum(math.prod(entry["shape"]) for name, entry in header.items() if name != "__metadata__")


def prior_bytes(folder: Path, bytes_each: int) -> int:
    """Of the weights of a prior's networks in memory."""
    parts = [part for part in ("unet", "vae", "text_encoder") if (folder / part).is_dir()]
    return sum(bytes_each * header_elements(file) for part in parts for file in weight_files(folder, part))


def scorer_bytes(ids: set[str]) -> int:
    """Of the weights of scorers, as their files are on the disk; what several of them share counts once."""
    from psdbench import weights
    from psdbench.scorers.catalogue import SCORERS
    from psdbench.world import weights_folder

    listings = [SCORERS[id] for id in ids if id in SCORERS]
    names = weights.with_needs(listing.weights for listing in listings if listing.weights)
    folders = {weights.folder(entry.name) for entry in names}
    folders |= {weights_folder() / listing.folder for listing in listings if listing.folder}
    files = (file for folder in folders for file in folder.rglob("*") if file.suffix in WEIGHT_FILES)
    return sum(file.stat().st_size for file in files)


def asset_bytes(protocol: Protocol) -> float:
    """Parameters, gradient and two moments of all particles, as large as they may grow."""
    import torch

    asset = registry.make_representation(
        protocol.representation, protocol.representation_params, torch.Generator()
    )
    once = sum(4 * parameter.numel() for parameter in asset.parameters())
    return 4.0 * protocol.optimize.particles * asset.growth * once


def render_bytes(protocol: Protocol) -> float:
    """Of one view with its graph."""
    params, pixels = protocol.representation_params, float(protocol.optimize.size**2)
    if protocol.representation == "voxels":
        return pixels * params["resolution"] * VOXEL_SAMPLE
    if protocol.representation == "hashgrid":
        levels, features, hidden = params["levels"], params["features"], params["hidden"]
        asked = levels * (8 * 8 * 2 + 8 * features) + 16 * hidden
        return pixels * DIAGONAL * params["samples"] * (LIGHT_SAMPLE + OCCUPIED * asked)
    return pixels * (KERNEL_PIXEL if _kernels(protocol) else SPLATTED_PIXEL * params["max_count"] ** (1 / 3))


def _kernels(protocol: Protocol) -> bool:
    from importlib.util import find_spec

    return protocol.device == "cuda" and find_spec("gsplat") is not None


@dataclass(frozen=True)
class Networks:
    """Bytes of activations for one image in the networks of a prior."""

    encoder: float
    """with a graph"""
    decoder: float
    denoiser: float
    denoiser_with_graph: float

    @classmethod
    def of(cls, folder: Path, bytes_each: int, optimize: OptimizeConfig) -> Networks:
        """From the configurations in a prior's folder."""
        pixels = float(optimize.size**2)
        saved = RECOMPUTED if optimize.memory_rung == 2 else 1.0
        unet, has_vae = read_config(folder, "unet"), (folder / "vae").is_dir()
        encoder, decoder, scale = autoencoder_maps(read_config(folder, "vae")) if has_vae else (6.0, 6.0, 1)
        tiny = has_vae and "num_encoder_blocks" in read_config(folder, "vae")
        plain, graph = denoiser_maps(unet)
        latents = pixels / scale**2
        return cls(
            encoder=bytes_each * pixels * encoder * (1.0 if tiny else saved),
            decoder=bytes_each * pixels * decoder,
            denoiser=bytes_each * latents * plain,
            denoiser_with_graph=bytes_each * latents * graph * saved,
        )


def autoencoder_maps(config: Mapping[str, Any]) -> tuple[float, float, int]:
    """Numbers per pixel that an encoder keeps and a decoder needs, and pixels per latent along a side."""
    widths = config.get("block_out_channels", (64,))
    if stages := config.get("num_encoder_blocks"):
        return float(TINY_MAPS * widths[0]), float(DECODED_MAPS * widths[0]), 2 ** (len(stages) - 1)
    layers = config.get("layers_per_block", 1)
    kept = sum(RESNET_MAPS * layers * width / 4**level for level, width in enumerate(widths))
    middle = 2 * RESNET_MAPS * widths[-1] / 4 ** (len(widths) - 1)
    widest = widths[min(1, len(widths) - 1)]
    return SCRATCH * (kept + middle), float(DECODED_MAPS * widest), 2 ** (len(widths) - 1)


def denoiser_maps(config: Mapping[str, Any]) -> tuple[float, float]:
    """Numbers per latent pixel that a UNet needs at once without a graph, and keeps with one."""
    widths, blocks = config["block_out_channels"], config["down_block_types"]
    layers = config.get("layers_per_block", 2)
    layers = [layers] * len(widths) if isinstance(layers, int) else layers
    skips = kept = 0.0
    for level, (width, block, count) in enumerate(zip(widths, blocks, layers, strict=True)):
        area = 1 / 4**level
        attended = ATTENTION_MAPS if "Attn" in block else 0
        skips += area * width * (count + 1)
        # Up blocks have one layer more than down blocks, and take the skip connections in.
        kept += area * width * ((2 * count + 1) * (RESNET_MAPS + attended) + 2 * (count + 1))
    return skips + WORKING_MAPS * widths[0], SCRATCH * kept
