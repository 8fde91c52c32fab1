"""What scorers loaded from a folder have in common: strict weights, local files, one hash."""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from psdbench.errors import EnvironmentProblem
from psdbench.store.digest import folder_sha256

Model = TypeVar("Model", bound=nn.Module)
_NOT_WEIGHTS = "embeddings.position_ids"  # a counter 0, 1, 2 … that old versions of transformers stored


class FolderScorer:
    """A scorer whose weights lie in a local folder; nothing is read before the first use.

    `settings` is the optional ``score.json`` of the folder; its key ``view_words`` says whether the scorer
    was made for captions that name the view.
    """

    higher_is_better = True
    differentiable = True

    def __init__(self, id: str, folder: Path, device: torch.device | str = "cpu") -> None:
        self.id, self.folder, self.device = id, Path(folder), torch.device(device)

    @cached_property
    def settings(self) -> dict[str, Any]:
        """The fields of ``score.json``, empty where there is none."""
        path = self.folder / "score.json"
        return read_json(path) if path.exists() else {}

    @property
    def view_words(self) -> bool:
        """Whether prompts come with the name of the view."""
        return bool(self.settings.get("view_words", False))

    @property
    def folders(self) -> Sequence[Path]:
        """All folders whose files decide the score."""
        return [self.folder]

    @cached_property
    def sha256(self) -> str:
        """Hash of the weights, configuration and vocabulary that decide the score."""
        for folder in self.folders:
            if not folder.is_dir():
                raise missing(folder)
        return folder_sha256(*self.folders)


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object from a file; EnvironmentProblem if it is missing or is not one."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise missing(path) from None
    except ValueError as error:
        raise EnvironmentProblem(
            f"{path} is not JSON: {error}", "restore the folder of this scorer"
        ) from error
    if not isinstance(content, dict):
        raise EnvironmentProblem(f"{path} is not a JSON object", "restore the folder of this scorer")
    return content


def read_weights(path: Path) -> dict[str, Tensor]:
    """The tensors of a safetensors file; EnvironmentProblem if it is missing or damaged."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return load_file(path)
    except FileNotFoundError:
        raise missing(path) from None
    except SafetensorError as error:
        remedy = "restore the file; only safetensors are read"
        raise EnvironmentProblem(f"{path} is damaged: {error}", remedy) from error


def fill(model: Model, path: Path) -> Model:
    """Load a safetensors file into a model and freeze it.

    Raises EnvironmentProblem that names each missing, unexpected or misshapen key.
    """
    state = {k: v for k, v in read_weights(path).items() if not k.endswith(_NOT_WEIGHTS)}
    own = model.state_dict()
    problems = [f"missing {key}" for key in sorted(own.keys() - state.keys())]
    problems += [f"unexpected {key}" for key in sorted(state.keys() - own.keys())]
    problems += [
        f"{key} has shape {tuple(state[key].shape)} instead of {tuple(own[key].shape)}"
        for key in sorted(own.keys() & state.keys())
        if own[key].shape != state[key].shape
    ]
    if problems:
        more = f" and {len(problems) - 5} more" if len(problems) > 5 else ""
        raise EnvironmentProblem(
            f"{path} does not fit its configuration: {'; '.join(problems[:5])}{more}",
            "use the weights that belong to the config.json beside them",
        )
    model.load_state_dict(state)
    return model.eval().requires_grad_(False)


def missing(path: Path) -> EnvironmentProblem:
    """The error for weights that are not there."""
    return EnvironmentProblem(f"{path} is missing", "`psdbench doctor` lists the weights that a run needs")
