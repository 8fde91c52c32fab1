"""The public layout of MVDream's checkpoint: every name and shape, for any widths, with random values."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from psdbench.priors.convert import SCHEDULER
from psdbench.priors.diffusion import alphas_cumprod

Shapes = Iterator[tuple[str, tuple[int, ...]]]


def layer(name: str, out: int, *rest: int, bias: bool = True) -> Shapes:
    """A linear layer, a convolution, or (without further sizes) a normalisation."""
    yield f"{name}.weight", (out, *rest)
    if bias:
        yield f"{name}.bias", (out,)


def resblock(name: str, into: int, out: int, time: int) -> Shapes:
    yield from layer(f"{name}.in_layers.0", into)
    yield from layer(f"{name}.in_layers.2", out, into, 3, 3)
    yield from layer(f"{name}.emb_layers.1", out, time)
    yield from layer(f"{name}.out_layers.0", out)
    yield from layer(f"{name}.out_layers.3", out, out, 3, 3)
    if into != out:
        yield from layer(f"{name}.skip_connection", out, into, 1, 1)


def transformer(name: str, width: int, context: int) -> Shapes:
    yield from layer(f"{name}.norm", width)
    yield from layer(f"{name}.proj_in", width, width)
    block = f"{name}.transformer_blocks.0"
    for attention, source in (("attn1", width), ("attn2", context)):
        yield from layer(f"{block}.{attention}.to_q", width, width, bias=False)
        yield from layer(f"{block}.{attention}.to_k", width, source, bias=False)
        yield from layer(f"{block}.{attention}.to_v", width, source, bias=False)
        yield from layer(f"{block}.{attention}.to_out.0", width, width)
    yield from layer(f"{block}.ff.net.0.proj", 8 * width, width)
    yield from layer(f"{block}.ff.net.2", width, 4 * width)
    for i in (1, 2, 3):
        yield from layer(f"{block}.norm{i}", width)
    yield from layer(f"{name}.proj_out", width, width)


def unet(widths: tuple[int, ...], context: int) -> Shapes:
    """MultiViewUNetModel with two residual blocks a level and attention on all levels but the last."""
    first, time, last = widths[0], 4 * widths[0], len(widths) - 1
    for name, into in (("time_embed", first), ("camera_embed", 16)):
        yield from layer(f"{name}.0", time, into)
        yield from layer(f"{name}.2", time, time)
    yield from layer("input_blocks.0.0", first, 4, 3, 3)
    skips, width, index = [first], first, 1
    for level, out in enumerate(widths):
        for _ in range(2):
            yield from resblock(f"input_blocks.{index}.0", width, out, time)
            if level != last:
                yield from transformer(f"input_blocks.{index}.1", out, context)
            skips.append(out)
            width, index = out, index + 1
        if level != last:
            yield from layer(f"input_blocks.{index}.0.op", out, out, 3, 3)
            skips.append(out)
            index += 1
    yield from resblock("middle_block.0", width, width, time)
    yield from transformer("middle_block.1", width, context)
    yield from resblock("middle_block.2", width, width, time)
    index = 0
    for level, out in reversed(list(enumerate(widths))):
        for i in range(3):
            yield from resblock(f"output_blocks.{index}.0", width + skips.pop(), out, time)
            if level != last:
                yield from transformer(f"output_blocks.{index}.1", out, context)
            if level and i == 2:
                yield from layer(f"output_blocks.{index}.{1 if level == last else 2}.conv", out, out, 3, 3)
            width, index = out, index + 1
    yield from layer("out.0", first)
    yield from layer("out.2", 4, first, 3, 3)


def vae_block(name: str, into: int, out: int) -> Shapes:
    yield from layer(f"{name}.norm1", into)
    yield from layer(f"{name}.conv1", out, into, 3, 3)
    yield from layer(f"{name}.norm2", out)
    yield from layer(f"{name}.conv2", out, out, 3, 3)
    if into != out:
        yield from layer(f"{name}.nin_shortcut", out, into, 1, 1)


def vae_middle(name: str, width: int) -> Shapes:
    yield from vae_block(f"{name}.block_1", width, width)
    yield from layer(f"{name}.attn_1.norm", width)
    for part in ("q", "k", "v", "proj_out"):
        yield from layer(f"{name}.attn_1.{part}", width, width, 1, 1)
    yield from vae_block(f"{name}.block_2", width, width)


def vae(widths: tuple[int, ...]) -> Shapes:
    """AutoencoderKL with four latent channels."""
    first, last = widths[0], widths[-1]
    yield from layer("encoder.conv_in", first, 3, 3, 3)
    width = first
    for i, out in enumerate(widths):
        for block in range(2):
            yield from vae_block(f"encoder.down.{i}.block.{block}", width, out)
            width = out
        if i + 1 < len(widths):
            yield from layer(f"encoder.down.{i}.downsample.conv", out, out, 3, 3)
    yield from vae_middle("encoder.mid", last)
    yield from layer("encoder.norm_out", last)
    yield from layer("encoder.conv_out", 8, last, 3, 3)
    yield from layer("decoder.conv_in", last, 4, 3, 3)
    yield from vae_middle("decoder.mid", last)
    for i, out in reversed(list(enumerate(widths))):
        for block in range(3):
            yield from vae_block(f"decoder.up.{i}.block.{block}", width, out)
            width = out
        if i:
            yield from layer(f"decoder.up.{i}.upsample.conv", out, out, 3, 3)
    yield from layer("decoder.norm_out", first)
    yield from layer("decoder.conv_out", 3, first, 3, 3)
    yield from layer("quant_conv", 8, 8, 1, 1)
    yield from layer("post_quant_conv", 4, 4, 1, 1)


def text_encoder(width: int, vocabulary: int, blocks: int) -> Shapes:
    """OpenCLIP's, with the projection that MVDream does not use."""
    yield "positional_embedding", (77, width)
    yield "text_projection", (width, width)
    yield "logit_scale", ()
    yield "token_embedding.weight", (vocabulary, width)
    for i in range(blocks):
        block = f"transformer.resblocks.{i}"
        yield from layer(f"{block}.ln_1", width)
        yield f"{block}.attn.in_proj_weight", (3 * width, width)
        yield f"{block}.attn.in_proj_bias", (3 * width,)
        yield from layer(f"{block}.attn.out_proj", width, width)
        yield from layer(f"{block}.ln_2", width)
        yield from layer(f"{block}.mlp.c_fc", 4 * width, width)
        yield from layer(f"{block}.mlp.c_proj", width, 4 * width)
    yield from layer("ln_final", width)


def checkpoint(context: int = 64, vocabulary: int = 514) -> dict[str, Tensor]:
    """A small sd-v2.1-base-4view.pt."""
    parts = {
        "model.diffusion_model.": unet((32, 64, 64, 64), context),
        "first_stage_model.": vae((32, 32, 64, 64)),
        "cond_stage_model.model.": text_encoder(context, vocabulary, 3),
    }
    generator = torch.Generator().manual_seed(0)
    tensors = {
        prefix + name: 0.05 * torch.randn(shape, generator=generator)
        for prefix, shapes in parts.items()
        for name, shape in shapes
    }
    signal = alphas_cumprod(SCHEDULER)
    tensors |= {"betas": 1 - signal / torch.cat([torch.ones(1), signal[:-1]]), "alphas_cumprod": signal}
    return tensors
