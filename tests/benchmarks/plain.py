"""The same step in plain diffusers, as score-distillation scripts write it.

Taken from what public code does (threestudio's Stable Diffusion guidances, whose `compute_grad_vsd` and `train_lora`
are followed for VSD): models as `from_pretrained` gives them; `scheduler.add_noise` in float32; a sample of the
autoencoder's posterior; the UNet under `no_grad`; the loss against a target; text embeddings computed once, for all
known scripts keep them. Of PSD no code is public: the pair is a loop over two noises, each denoised, decoded and
scored, as one would write it first. VSD's adapter sits in a UNet of its own, always on, and, as in threestudio, is
asked with and without the camera, though its guidance scale of 1 gives the second answer no weight.

Two ways of calling the UNet: `batched`, as threestudio does, the two branches of classifier-free guidance in one
call; else a call for each branch. What both ways share with psdbench, and so does not decide: renderer, cameras,
reward, networks and weights, number format.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from itertools import chain
from typing import Any

import torch
from diffusers import DDPMScheduler
from torch import Tensor, nn
from torch.nn.functional import mse_loss

from psdbench.cameras import Cameras, sample_cameras, with_view_words
from psdbench.guidance import RunningMean
from psdbench.optimizer.loop import Optimisation
from psdbench.priors.lora import camera_network
from psdbench.ramps import side

SCALE = 7.5


class Plain:
    """A step of SDS, PSD or VSD on the first asset of a run, which it moves as the run does."""

    def __init__(
        self, run: Optimisation, denoiser: nn.Module, scheduler: dict[str, Any], batched: bool
    ) -> None:
        self.run, self.prior, self.batched = run, run.prior, batched
        plain = torch.contiguous_format
        self.unet: Any = copy.deepcopy(denoiser).to(memory_format=plain)
        self.vae = copy.deepcopy(run.prior.vae).to(memory_format=plain)
        self.scheduler = DDPMScheduler.from_config(scheduler)
        self.alphas_cumprod = self.scheduler.alphas_cumprod.to(run.prior.device)
        self.generator = torch.Generator().manual_seed(0)
        self.config = run.spec.protocol.optimize
        self.asset = copy.deepcopy(run.particles[0].asset)
        self.adam = torch.optim.Adam(self.asset.parameter_groups(self.config), betas=(0.9, 0.99))
        self.mean_gap = RunningMean()
        if run.spec.method == "vsd":
            self._add_adapter()

    def step(self) -> None:
        """Render, encode, guide, descend."""
        views, device, config = self.config.views, self.prior.device, self.config
        poses = self.run.spec.protocol.cameras
        cameras = sample_cameras(self.generator, views, poses, self.prior.views)
        prompts = with_view_words(self.run.spec.prompt, cameras, poses.named_azimuths)
        cameras = cameras.to(device)
        picture = self.asset.render(
            cameras, side(config.size_schedule, config.size, 0.0), torch.ones(3, device=device)
        ).picture(config.size)
        latents = self.encode(picture)
        t = torch.randint(20, 980, (1,), generator=self.generator).expand(views).to(device)
        guide: Callable[..., Tensor] = getattr(self, self.run.spec.method)
        with torch.no_grad():
            grad = torch.nan_to_num(guide(latents, t, prompts, cameras, self._noise(latents)))
        target = (latents - grad).detach()
        loss = 0.5 * mse_loss(latents, target, reduction="sum") / views
        if self.run.spec.method == "vsd":
            self.train_adapter(latents.detach(), cameras)
        self.adam.zero_grad()
        loss.backward()
        self.adam.step()

    def _noise(self, latents: Tensor) -> Tensor:
        return torch.randn(latents.shape, generator=self.generator).to(latents.device)

    def encode(self, images: Tensor) -> Tensor:
        """A sample of the posterior, normalised."""
        encoded = self.vae.encode((images * 2 - 1).to(self.prior.dtype))
        raw = encoded.latent_dist.sample() if hasattr(encoded, "latent_dist") else encoded.latents
        return (raw.float() - self.prior._shift) * self.prior._scale

    def predict(
        self, unet: nn.Module, x_t: Tensor, t: Tensor, texts: list[list[str]], cameras: Cameras
    ) -> Any:
        """ε̂ of each branch, whose prompts `texts` lists view by view."""
        poses = cameras.extrinsics().to(self.prior.dtype)

        def call(n: int, prompts: list[str]) -> Tensor:
            extra = {"class_labels": poses.repeat(n, 1)} if self.prior.views > 1 else {}
            text = self.prior.encode_text(prompts).to(self.prior.dtype)
            x = torch.cat([x_t] * n).to(self.prior.dtype)
            return unet(x, torch.cat([t] * n), encoder_hidden_states=text, **extra).sample.float()

        if self.batched:
            return call(len(texts), list(chain(*texts))).chunk(len(texts))
        return [call(1, prompts) for prompts in texts]

    def guided(self, x_t: Tensor, t: Tensor, prompts: list[str], cameras: Cameras) -> Tensor:
        """Classifier-free guidance."""
        null = [self.run.spec.protocol.negative_prompt] * len(prompts)
        lower, upper = self.predict(self.unet, x_t, t, [null, prompts], cameras)
        return lower + SCALE * (upper - lower)

    def weight(self, t: Tensor) -> Tensor:
        """σ²."""
        return (1 - self.alphas_cumprod[t]).view(-1, 1, 1, 1)

    def sds(self, latents: Tensor, t: Tensor, prompts: list[str], cameras: Cameras, noise: Tensor) -> Tensor:
        """w (ε̂_ω - ε)."""
        x_t = self.scheduler.add_noise(latents, noise, t)
        return self.weight(t) * (self.guided(x_t, t, prompts, cameras) - noise)

    def psd(
        self,
        latents: Tensor,
        t: Tensor,
        prompts: list[str],
        cameras: Cameras,
        noise: Tensor,
        other: Any = None,
    ) -> Tensor:
        """w [ρ_1 + s (ρ_win - ρ_lose)], the pair one after the other."""
        reward, residuals, scores = self.run.reward, [], []
        assert reward is not None
        for eps in (noise, self._noise(latents) if other is None else other):
            x_t = self.scheduler.add_noise(latents, eps, t)
            guided = self.guided(x_t, t, prompts, cameras)
            signal = self.alphas_cumprod[t].view(-1, 1, 1, 1)
            x0 = (x_t - (1 - signal).sqrt() * guided) / signal.sqrt()
            raw = x0 / self.prior._scale + self.prior._shift
            images = (self.vae.decode(raw.to(self.prior.dtype)).sample.float() / 2 + 0.5).clamp(0, 1)
            words = prompts if reward.view_words else [self.run.spec.prompt] * len(prompts)
            scores.append(reward.score(images, words, cameras).float().mean())
            residuals.append(guided - eps)
        gap = scores[0] - scores[1]
        scale = (gap.abs() / self.mean_gap.update(gap.abs()).clamp_min(1e-30)).clamp_max(3.0) * gap.sign()
        return self.weight(t) * (residuals[0] + scale * (residuals[0] - residuals[1]))

    def _add_adapter(self) -> None:
        from peft import LoraConfig, LoraModel

        self.lora: Any = copy.deepcopy(self.unet)
        targets = ["to_q", "to_k", "to_v", "to_out.0"]
        LoraModel(self.lora, {"q": LoraConfig(r=4, lora_alpha=4, target_modules=targets)}, "q")
        self.lora.requires_grad_(False)
        leaves = [p for name, p in self.lora.named_parameters() if "lora_" in name]
        for leaf in leaves:
            leaf.data = leaf.data.float()
            leaf.requires_grad_(True)
        width = self.lora.time_embedding.linear_2.out_features
        self.camera = camera_network(width, self.generator).to(self.prior.device)
        self.lora.time_embedding.register_forward_hook(
            lambda module, inputs, out: out + self.camera(self.condition).to(out.dtype)
        )
        self.lora_adam = torch.optim.AdamW([*leaves, *self.camera.parameters()], lr=1e-4)

    def vsd(self, latents: Tensor, t: Tensor, prompts: list[str], cameras: Cameras, noise: Tensor) -> Tensor:
        """w (ε̂_ω - ε̂_ψ), ε̂_ψ with and without the camera."""
        x_t = self.scheduler.add_noise(latents, noise, t)
        eps, seen = self.guided(x_t, t, prompts, cameras), cameras.extrinsics()
        plain = [self.run.spec.prompt] * len(prompts)
        if self.batched:
            self.condition = torch.cat([seen, torch.zeros_like(seen)])
            own, _ = self.predict(self.lora, x_t, t, [plain, plain], cameras)
        else:
            self.condition = seen
            (own,) = self.predict(self.lora, x_t, t, [plain], cameras)
            self.condition = torch.zeros_like(seen)
            self.predict(self.lora, x_t, t, [plain], cameras)
        return self.weight(t) * (eps - own)

    def train_adapter(self, latents: Tensor, cameras: Cameras) -> None:
        """One step of AdamW on the noise of the renders."""
        t = torch.randint(1000, (1,), generator=self.generator).expand(len(latents)).to(latents.device)
        noise = self._noise(latents)
        self.condition = cameras.extrinsics()
        plain = [self.run.spec.prompt] * len(latents)
        x_t = self.scheduler.add_noise(latents, noise, t)
        (eps,) = self.predict(self.lora, x_t, t, [plain], cameras)
        self.lora_adam.zero_grad()
        mse_loss(eps, noise).backward()
        self.lora_adam.step()
