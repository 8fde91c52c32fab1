"""Whether a prior predicts what its scheduler says, told from one look at pure noise.

The files of a prior can disagree: a copy of Stable Diffusion 2.1 under the scheduler of its base predicts v where
ε is announced, every score is wrong, and nothing fails. Near the end of the diffusion x_t is almost all noise, so a
trained network that predicts ε returns nearly x_t itself, one that predicts v or x something unlike it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from psdbench.errors import EnvironmentProblem
from psdbench.streams import Streams, randn

if TYPE_CHECKING:
    from psdbench.priors.diffusers import DiffusersPrior

LATE = 0.98
"""share of the diffusion at which is looked"""
LIKE, UNLIKE = 0.9, 0.6
"""correlation with x_t above which an output is the noise, and below which it is not"""


def check_prediction(prior: DiffusersPrior, side: int) -> None:
    """Raise EnvironmentProblem when a trained prior's output is not of the announced kind.

    `side` is that of its latents. Says nothing of flows, whose velocity is half noise, nor of untrained networks.
    """
    t = torch.full((prior.views,), int(LATE * prior.num_timesteps), device=prior.device)
    noise = randn((prior.views, prior.latent_channels, side, side), Streams(0)["probe"], prior.device)
    eps = prior.predict_noise(noise, t, prior.encode_text([""] * prior.views))
    alpha, sigma = prior.alpha_sigma(t)
    output = {
        "epsilon": eps,
        "v_prediction": (eps - sigma * noise) / alpha,
        "sample": (noise - sigma * eps) / alpha,
    }.get(prior.prediction)
    if output is None:
        return
    likeness = correlation(output, noise)
    says_noise = prior.prediction == "epsilon"
    if (says_noise and likeness < UNLIKE) or (not says_noise and likeness > LIKE):
        raise EnvironmentProblem(
            f"the prior in {prior.folder} does not predict '{prior.prediction}' as its scheduler says: on pure noise "
            f"its output has a correlation of {likeness:.2f} with it",
            "take scheduler/ and unet/ from the same release",
        )


def correlation(a: Tensor, b: Tensor) -> float:
    """Of all their values."""
    return float(torch.corrcoef(torch.stack([a.flatten(), b.flatten()]))[0, 1])
