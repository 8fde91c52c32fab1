"""Fixtures shared by all tests: a tiny random prior in the real folder format, and the real one."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import hypothesis
import pytest
import torch
from commands import Done, in_this_process

from psdbench import registry
from psdbench.config import PriorRef
from psdbench.job import Models

torch.set_num_threads(1)
# time is measured by benchmarks: no test fails because the machine is busy
hypothesis.settings.register_profile("psdbench", deadline=None)
hypothesis.settings.load_profile("psdbench")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--renew-trajectories",
        action="store_true",
        help="write the trajectories.json of these tests anew instead of comparing with it",
    )


def write_tiny_prior(folder: Path) -> Path:
    """A Stable-Diffusion-format folder: 16×16×8 latents, AutoencoderTiny of factor 4, all weights random."""
    from diffusers import AutoencoderTiny, UNet2DConditionModel
    from transformers import CLIPTextConfig, CLIPTextModel

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        unet = UNet2DConditionModel(
            sample_size=16,
            in_channels=8,
            out_channels=8,
            block_out_channels=(16, 32),
            layers_per_block=1,
            down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
            up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
            mid_block_type=None,
            cross_attention_dim=32,
            attention_head_dim=16,
            norm_num_groups=8,
        )
        vae = AutoencoderTiny(
            latent_channels=8,
            encoder_block_out_channels=(8, 8, 8),
            decoder_block_out_channels=(8, 8, 8),
            num_encoder_blocks=(1, 1, 1),
            num_decoder_blocks=(1, 1, 1),
        )
        text = CLIPTextModel(
            CLIPTextConfig(
                vocab_size=514,
                hidden_size=32,
                intermediate_size=64,
                num_hidden_layers=1,
                num_attention_heads=2,
                max_position_embeddings=32,
                bos_token_id=512,
                eos_token_id=513,
            )
        )
    for model, name in ((unet, "unet"), (vae, "vae"), (text, "text_encoder")):
        model.save_pretrained(folder / name)
    config = folder / "vae" / "config.json"
    moments = {"latents_mean": [0.1 * c for c in range(8)], "latents_std": [1.0 + 0.1 * c for c in range(8)]}
    config.write_text(json.dumps(json.loads(config.read_text()) | moments))
    from folders import byte_tokenizer

    byte_tokenizer().save_pretrained(folder / "tokenizer")
    (folder / "scheduler").mkdir()
    scheduler = {
        "_class_name": "DDIMScheduler",
        "num_train_timesteps": 1000,
        "beta_start": 0.00085,
        "beta_end": 0.012,
        "beta_schedule": "scaled_linear",
        "prediction_type": "epsilon",
    }
    (folder / "scheduler" / "scheduler_config.json").write_text(json.dumps(scheduler))
    return folder


@pytest.fixture(scope="session")
def tiny_prior_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a whole, untrained prior of some hundred thousand parameters; not to be written to."""
    return write_tiny_prior(tmp_path_factory.mktemp("priors") / "tiny")


@pytest.fixture(scope="session")
def sd_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small untrained prior of the shape of Stable Diffusion 1.5; not to be written to."""
    from folders import write_sd

    return write_sd(tmp_path_factory.mktemp("priors") / "sd")


@pytest.fixture(scope="session")
def mvdream_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small untrained prior of the shape of MVDream; not to be written to."""
    from folders import write_mvdream

    return write_mvdream(tmp_path_factory.mktemp("priors") / "mv")


@pytest.fixture
def tiny_prior(tiny_prior_folder: Path):
    """That prior, loaded afresh."""
    from psdbench.priors.diffusers import DiffusersPrior

    return DiffusersPrior.load(tiny_prior_folder)


@pytest.fixture(scope="session")
def shapes_prior():
    """The embedded prior with its trained weights."""
    from psdbench.priors.diffusers import DiffusersPrior
    from psdbench.world import weights_folder

    return DiffusersPrior.load(weights_folder() / "prior")


@pytest.fixture
def program(capsys: pytest.CaptureFixture[str]) -> Callable[..., Done]:
    """Run `psdbench ARGS` in this process."""
    return in_this_process(capsys)


@pytest.fixture(scope="module")
def prior(tiny_prior_folder: Path) -> PriorRef:
    """The tiny prior, as a job names it."""
    return registry.prior_ref(str(tiny_prior_folder))


@pytest.fixture(scope="module")
def models() -> Models:
    """Those that the jobs of a file share."""
    return Models()
