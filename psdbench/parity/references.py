"""Which official package each scorer is held against, what the package is asked, and where it is found."""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from psdbench.errors import EnvironmentProblem, UsageError
from psdbench.parity import official_side

SCRIPT = Path(official_side.__file__)
_SAID = 400
"""characters of what a child process said last that an error repeats"""


@dataclass(frozen=True)
class Reference:
    """An official package or public definition."""

    package: str
    """its name among `official_side.REFERENCES`"""
    install: str
    """what to give pip"""
    tidies: bool = True
    """False: reads prompts as they are and cuts long ones without their end, so only plain ones are compared"""
    crops_evenly: bool = True
    """False: rounds the odd remainder of a centre crop down, so pictures with one of three are left out"""


_CLIP = Reference("openai-clip", "openai-clip torchvision 'setuptools<81'")
_HPS = Reference("hpsv2", "hpsv2==1.2.0 open_clip_torch torchvision")
_TORCHMETRICS = Reference("torchmetrics", "torchmetrics transformers", tidies=False, crops_evenly=False)
REFERENCES: dict[str, tuple[Reference, ...]] = {
    "aesthetic_laion_v2": (_CLIP,),
    "image_reward_v1.0": (
        Reference("image-reward", "image-reward==1.5 openai-clip 'transformers<4.56' 'setuptools<81'"),
    ),
    "hps_v2.0": (_HPS,),
    "hps_v2.1": (_HPS,),
    "clip_vit_l14": (_CLIP, _TORCHMETRICS),
    "clip_vit_b32": (_CLIP, _TORCHMETRICS),
    "clip_vit_b16": (_CLIP, _TORCHMETRICS),
    "pickscore_v1": (Reference("transformers", "transformers torch"),),
}
"""by scorer id"""


def find_python(reference: Reference, pythons: Sequence[Path]) -> Path:
    """The first of these interpreters whose environment has what the reference needs.

    Raises UsageError for what is no Python interpreter, EnvironmentProblem that says what the last one lacks.
    """
    problem = EnvironmentProblem(f"no interpreter was given that has {reference.package}", _how(reference))
    for python in pythons:
        try:
            ask(reference, python, {"pairs": []})
        except EnvironmentProblem as error:
            problem = error
        else:
            return python
    raise problem


def ask(
    reference: Reference, python: Path, request: Mapping[str, Any], tokenizer: Path | None = None
) -> dict[str, Any]:
    """The answer of `official_side.py`, run by another interpreter without network and without a GPU.

    `tokenizer` is the folder that the child finds as ``bert-base-uncased``. Raises EnvironmentProblem where the
    environment lacks something or the package fails; its last words are in the message.
    """
    with tempfile.TemporaryDirectory(prefix="psdbench-parity-") as name:
        folder = Path(name)
        asked, answered = folder / "request.json", folder / "answer.json"
        asked.write_text(json.dumps({**request, "reference": reference.package}), encoding="utf-8")
        if tokenizer:
            (folder / "bert-base-uncased").symlink_to(tokenizer.resolve(), target_is_directory=True)
        # -I: neither this program's folder nor PYTHONPATH; not resolved: a venv's interpreter is a link
        arguments = [os.path.abspath(python), "-I", "-B", str(SCRIPT), str(asked), str(answered)]
        try:
            done = subprocess.run(
                arguments, cwd=folder, env=_environment(folder), capture_output=True, text=True, check=False
            )
        except OSError as error:
            raise UsageError(
                f"{python} cannot be run: {error.strerror}", "pass a Python interpreter"
            ) from error
        if not answered.is_file():
            said = done.stderr.strip()[-_SAID:] or f"nothing, exit code {done.returncode}"
            raise EnvironmentProblem(f"{reference.package} failed under {python}: {said}", _how(reference))
        answer: dict[str, Any] = json.loads(answered.read_text(encoding="utf-8"))
    if "problem" in answer:
        raise EnvironmentProblem(answer["problem"], answer["remedy"] or _how(reference))
    return answer


def _how(reference: Reference) -> str:
    return (
        f"pip install {reference.install}, in an environment of its own; pass its interpreter with --python"
    )


def _environment(folder: Path) -> dict[str, str]:
    """That of this process, but for what would let a network or a GPU in."""
    offline = {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1"}
    return os.environ | offline | {"CUDA_VISIBLE_DEVICES": "", "HPS_ROOT": str(folder)}
