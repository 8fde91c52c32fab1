"""Reward-finetuned priors: the baselines that change the prior instead of the gradient.

An algorithm trains a LoRA on the prior's UNet so that samples score higher under a reward; any method then
distils the result with ``--prior shapes+lora:FOLDER``. One file, one algorithm; the loop, the captions and the
sampler are shared. No maintained library has these trainers any more (trl removed its own), hence ours.
"""

from __future__ import annotations

ALGORITHMS = {
    "draft": "psdbench.finetune.draft:DRaFT",
    "dpo": "psdbench.finetune.dpo:DiffusionDPO",
    "ddpo": "psdbench.finetune.ddpo:DDPO",
}
"""name → class"""
