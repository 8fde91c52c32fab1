"""Preference Score Distillation (PSD, arXiv 2603.01594) in psdbench's own formulation.

Public about the paper: it aligns text-to-3D distillation with pretrained 2D rewards while it optimises, without
3D data and without pixel gradients of the reward, which never saw noisy images. Preference becomes a CFG-style
guidance: pairs of noisy latents are formed on the fly, a reward such as HPSv2.1 ranks them as win and lose and
scales the preference score, and the negative text embedding is optimised online. Its equations, weights,
learning rates and code were not public to us; what follows is ours. Two noises on one render give residuals
ρ_k = ε̂_ω(x_t^k) - ε^k; the reward of their predicted clean images says which won. With Δ = r_w - r_l,

    G = w(t) [ ρ_base + λ_t s(Δ) (ρ_w - ρ_l) ],      s(Δ) = min(Δ / EMA(Δ), max_gap) by default:

guidance of scale 1 + λs in which the loser plays the unconditional branch. ρ_base is the first noise's residual,
an unbiased draw of the base method; of CSD ε̂_text - ε̂_∅. While λ_t = 0 and nothing else needs the pair, a step
draws and computes what the base method does, to its bits; the second noise has a stream of its own.
Cost per view: 4 denoiser forwards, 2 decodes, 2 rewards; VSD: 3 forwards, 1 backward more; CSD: 2 forwards.
"""

from __future__ import annotations

from math import cos, pi
from typing import Literal

import torch
from torch import Tensor

from psdbench import guidance
from psdbench.guidance import Method, Setting, State, States, Step, combine, denoise, method
from psdbench.guidance.negative import NegativeEmbedding
from psdbench.guidance.ranking import scores
from psdbench.methods.csd import CSD
from psdbench.schedules import Weighting

TINY = 1e-30


@method("psd", paper="arXiv 2603.01594", needs_reward=True)
class PSD(Method):
    """Preference Score Distillation; the defaults are our choice unless a source is named."""

    guidance_scale: float = 7.5
    """ω of classifier-free guidance; MVDream uses 50"""
    weighting: Weighting = "sds"
    """w(t): sds σ², uniform 1, fantasia3d ασ², x0 σ/α (MVDream)"""
    x0_rescale: float = 0.0
    """ρ in [0, 1], share of x̂0's contrast that is taken back, as in SDS; MVDream's code has 0.5"""
    preference_scale: float = 1.0
    """λ, weight of the preference term; 0 is the base method"""
    preference_schedule: Literal["const", "linear", "cosine", "t_gate"] = "const"
    """λ_t: constant, falling to 0 linearly or as a cosine, or only where t <= preference_t_max"""
    preference_t_max: float = 0.5
    """of t_gate, share of the diffusion's length"""
    pair: Literal["two_noise", "two_t"] = "two_noise"
    """two noises at one t, or one noise at two t"""
    base: Literal["sds", "vsd", "csd"] = "sds"
    """base method; vsd measures the pair too from its learned score of the renders, else from the noise"""
    base_at: Literal["first", "mean", "win"] = "first"
    """which residual carries the base term; win with λ = 0 is best-of-2"""
    scale: Literal["one", "linear", "ema", "bt", "gate"] = "ema"
    """s(Δ): 1, Δ/τ, Δ over its running mean, 1 - σ(Δ/τ) (Bradley-Terry), 1 where Δ >= τ; a tie gives 0"""
    temperature: float = 0.01
    """τ of linear, bt and gate, in units of the reward; 0.01 is DreamDPO's gate for HPSv2"""
    max_gap: float = 3.0
    """upper bound of the ema scale"""
    per_view: bool = False
    """rank each view by itself (as DreamDPO's code) instead of the whole view set"""
    cfg_pair: Literal["same", "text"] = "same"
    """prediction in the preference term: guided like the base, or the text branch alone"""
    rank_on: int = 1
    """DDIM steps from x_t to the image that is ranked; 1 is the one-step x̂0"""
    negative: Literal["off", "dpo_x0", "pull_win", "refl"] = "off"
    """how the negative embedding n is learned"""
    negative_learning_rate: float = 1e-3
    """of AdamW, as a share of n's root mean square"""
    negative_every: int = 4
    """steps between updates of n"""
    negative_start: float = 0.05
    """share of the run before the first update of n"""
    negative_radius: float = 0.1
    """trust region: largest ‖n - n₀‖ as a share of ‖n₀‖"""

    @property
    def asks_reward_gradient(self) -> bool:
        return self.negative == "refl"

    def setup(self, setting: Setting) -> States:
        states: dict[str, State] = {"gap": guidance.RunningMean()}
        if self.base == "vsd":
            states["renders"] = guidance.RenderScore(setting.prior.tunable_score(4, 1e-4, setting.streams))
        if self.negative != "off":
            rate, radius, start = self.negative_learning_rate, self.negative_radius, setting.text.negative
            states["negative"] = NegativeEmbedding(start, self.negative, self.guidance_scale, rate, radius)
        return States(**states)

    def gradient(self, step: Step) -> Tensor:
        omega, preference, negative = self.guidance_scale, self._preference(step), step.state.get("negative")
        learns = negative and step.progress >= self.negative_start and step.index % self.negative_every == 0
        paired = preference != 0 or self.base_at != "first" or learns
        if self.base == "csd" and not paired:
            return CSD(weighting=self.weighting).gradient(step)
        noises, timesteps = self._draw(step, paired)
        lower = negative and negative.embedding
        guide = {"timesteps": timesteps, "negative": lower, "x0_rescale": self.x0_rescale}
        pool = guidance.noise_pool(step, noises, omega, **guide)
        weight, origin = guidance.weights(step, pool, self.weighting), pool.noises
        if self.base == "vsd":
            origin = step.state["renders"].predict_noise(step, pool)
            step.state["renders"].fit(step)
        base = pool.eps_hat - origin
        if not paired:
            return combine(base, weight)
        if self.base == "csd":
            base = pool.eps_text - denoise(step, pool.x_t, pool.timesteps, step.text.null)[0]
        x0 = guidance.short_ddim(step, pool, self.rank_on, omega, negative=lower)
        gap = torch.sub(*scores(step, x0, self.per_view))
        if learns:
            negative.learn(step, pool, x0, gap)
        first = {"first": torch.ones_like(gap), "mean": torch.full_like(gap, 0.5), "win": (gap >= 0).float()}
        share, lead = first[self.base_at], preference * self._scale(step, gap)
        eps_pair = pool.eps_hat if self.cfg_pair == "same" else pool.eps_text
        pair = combine(eps_pair - origin, weight, torch.stack([lead, -lead]))
        return combine(base, weight, torch.stack([share, 1 - share])) + pair

    def _preference(self, step: Step) -> float:
        """λ_t."""
        fade = {
            "const": 1.0,
            "linear": 1 - step.progress,
            "cosine": (1 + cos(pi * step.progress)) / 2,
            "t_gate": float(step.timestep[0] <= self.preference_t_max * step.prior.num_timesteps),
        }
        return self.preference_scale * fade[self.preference_schedule]

    def _draw(self, step: Step, paired: bool) -> tuple[Tensor, Tensor]:
        """Noises [K, V, C, h, w] and timesteps [K, V]; the first is the base method's own draw."""
        t, k = step.timestep[None], 2 if paired else 1
        if self.pair == "two_noise" or not paired:
            return step.noises(k), t.expand(k, -1)
        other = step.schedule.sample(step.progress, step.streams["pair_noise"], step.prior.num_timesteps)
        return step.noise().repeat(2, 1, 1, 1, 1), torch.cat([t, torch.full_like(t, other)])

    def _scale(self, step: Step, gap: Tensor) -> Tensor:
        """s(|Δ|) with the sign of Δ = r_1 - r_2, the coefficient of ρ_1 - ρ_2; NaN where Δ is."""
        size, tau = gap.abs(), self.temperature
        if self.scale == "ema":
            mean = step.state["gap"].update(size.mean())
            scale = (size / mean.clamp_min(TINY)).clamp_max(self.max_gap)
        else:
            bt, gate = torch.sigmoid(-size / tau), (size >= tau).float()
            scale = {"one": torch.ones_like(size), "linear": size / tau, "bt": bt, "gate": gate}[self.scale]
        return scale * (gap / size.clamp_min(TINY))
