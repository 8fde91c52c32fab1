"""Models of a prior's folder, frozen, by the classes of diffusers and transformers.

What configurations and file lists can tell was checked before (`psdbench.priors.folder`); here every weight must
find its place.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError

from psdbench.errors import EnvironmentProblem
from psdbench.priors.folder import FETCH, read_config, weight_files


def load_unet(folder: Path, dtype: torch.dtype) -> Any:
    """The denoiser."""
    import diffusers

    return load_frozen(diffusers.UNet2DConditionModel, folder, "unet", dtype)


def load_vae(folder: Path, dtype: torch.dtype) -> Any:
    """The autoencoder, of KL or of tiny kind."""
    import diffusers

    kind = read_config(folder, "vae").get("_class_name", "AutoencoderKL")
    return load_frozen(getattr(diffusers, kind), folder, "vae", dtype)


def load_text_encoder(folder: Path, dtype: torch.dtype) -> tuple[Any, Any]:
    """The text encoder, CLIP's or T5's, and its tokenizer."""
    import transformers

    t5 = read_config(folder, "text_encoder").get("model_type") == "t5"
    cls = transformers.T5EncoderModel if t5 else transformers.CLIPTextModel
    words = transformers.T5Tokenizer if t5 else transformers.CLIPTokenizer
    tokenizer = words.from_pretrained(folder / "tokenizer", local_files_only=True)
    return load_frozen(cls, folder, "text_encoder", dtype), tokenizer


def load_frozen(model_class: Any, folder: Path, part: str, dtype: torch.dtype) -> Any:
    """A model in evaluation mode, nothing trainable, from local safetensors that cover it exactly."""
    place, file = folder / part, weight_files(folder, part)[0]
    try:
        with quiet():
            model, info = model_class.from_pretrained(
                place,
                variant="fp16" if ".fp16" in file.name else None,
                torch_dtype=dtype,
                local_files_only=True,
                use_safetensors=True,
                output_loading_info=True,
            )
    except (OSError, ValueError, RuntimeError, SafetensorError) as error:
        raise EnvironmentProblem(f"{place} cannot be loaded: {str(error).splitlines()[0]}", FETCH) from error
    # Old text encoders carry the position numbers as a buffer; they are no parameters.
    unexpected = [key for key in info["unexpected_keys"] if not key.endswith("position_ids")]
    for problem, keys in (("lacks", info["missing_keys"]), ("has unexpected", unexpected)):
        if keys:
            raise EnvironmentProblem(f"{place} {problem} weights: {', '.join(sorted(keys)[:5])}", FETCH)
    return model.eval().requires_grad_(False)


@contextmanager
def quiet() -> Iterator[None]:
    """Without progress bars and remarks of the loading libraries; what matters is checked and raised here."""
    from diffusers.utils import logging as diffusers_log
    from transformers.utils import logging as transformers_log

    logs = (diffusers_log, transformers_log)
    before = [(log, log.get_verbosity(), log.is_progress_bar_enabled()) for log in logs]
    for log in logs:
        log.set_verbosity_error()
        log.disable_progress_bar()
    try:
        yield
    finally:
        for log, verbosity, bars in before:
            log.set_verbosity(verbosity)
            if bars:
                log.enable_progress_bar()
