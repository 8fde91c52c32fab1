"""LAION's aesthetic predictor: a linear stack on CLIP's image embedding; it does not read the prompt."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

from torch import Tensor

from psdbench.errors import EnvironmentProblem
from psdbench.scorers.clip import ClipTower, load_tower
from psdbench.scorers.eye import Eye, EyeScorer
from psdbench.scorers.folder import fill, missing, read_weights, settings_of, weights_path
from psdbench.scorers.head import ScoreHead, widths

HEAD_FILE = "head.safetensors"


class AestheticScorer(EyeScorer):
    """The head in its folder on the CLIP that the settings name relative to the folder."""

    @property
    def clip_folder(self) -> Path:
        """Where the CLIP of this head lies."""
        try:
            return (self.folder / self.settings["clip"]).resolve()
        except KeyError:
            if not self.folder.is_dir():
                raise missing(self.folder) from None
            raise EnvironmentProblem(
                f"{self.folder / 'score.json'} does not name its CLIP folder",
                'write {"clip": "../clip"} into it',
            ) from None

    @property
    def parts(self) -> Sequence[tuple[Path, Mapping[str, Any]]]:
        """The head's folder and the folder of its CLIP."""
        clip = self.clip_folder
        return [
            (self.folder, self.settings),
            (clip, settings_of(clip, self.settings.get("clip_settings", {}))),
        ]

    @cached_property
    def tower(self) -> ClipTower:
        """The CLIP model, shared with every other scorer of its folder."""
        return load_tower(self.clip_folder, self.device, self.settings.get("clip_settings"))

    @property
    def eye(self) -> Eye:
        """The image half of the tower."""
        return self.tower

    @cached_property
    def head(self) -> ScoreHead:
        """The score head, loaded on first use."""
        return load_head(weights_path(self.folder, self.settings, HEAD_FILE)).to(self.device)

    def rate(self, seen: Tensor, prompts: Sequence[str]) -> Tensor:
        """Image embeddings [N, D] to scores [N]; the scale is that of the head's training data."""
        return self.head(seen)


def load_head(path: Path) -> ScoreHead:
    """A score head with the widths that its file has; EnvironmentProblem if a layer is missing or unknown."""
    try:
        dims = widths(read_weights(path))
    except KeyError as error:
        raise EnvironmentProblem(f"{path} has no {error.args[0]}", "use a head in LAION's layout") from None
    head = ScoreHead(dims)
    fill(head, path)
    return head


def save_head(head: ScoreHead, folder: Path, clip: str = "../clip", view_words: bool = False) -> None:
    """Write the folder of an aesthetic scorer; `clip` is the path of its CLIP, relative to the folder."""
    from safetensors.torch import save_file

    folder.mkdir(parents=True, exist_ok=True)
    save_file(
        {key: value.detach().cpu().contiguous() for key, value in head.state_dict().items()},
        folder / HEAD_FILE,
    )
    settings = json.dumps({"clip": clip, "view_words": view_words}, indent=2)
    (folder / "score.json").write_text(settings + "\n", encoding="utf-8")
