"""`make speed`: what it costs to score renders by the official packages and by psdbench, in SPEED.md beside this file.

python tests/parity/make_speed.py [--share N] [--assets N] [--views N]
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import torch
from checkpoints import FULL, write_checkpoint
from environments import PACKAGES, build, vocabulary
from speed_table import Line, as_markdown

from psdbench.launch.notes import quiet_libraries
from psdbench.parity.compare import Material, ask_official
from psdbench.parity.pictures import render
from psdbench.parity.prompts import Prompt
from psdbench.parity.references import REFERENCES, find_python

HERE = Path(__file__).parent
SIDE = 512
"""pixels of a render"""
SUBJECTS = (
    *("a red cube", "a blue sphere", "a green cone", "a yellow cylinder"),
    *("a purple cube", "an orange sphere", "a pink cone", "a cyan cylinder"),
)
"""the prompts, from the embedded world's vocabulary"""


def main() -> None:
    """Environments, checkpoints, renders, both sides, table."""
    arguments = _arguments()
    root = arguments.root.resolve()
    pythons = {name: build(name, root) for name in PACKAGES}
    os.environ["PSDBENCH_WEIGHTS"] = str(root / f"weights-share-{arguments.share}")
    os.environ["OMP_NUM_THREADS"] = "1"
    quiet_libraries()
    layers = {
        name: (images // arguments.share, texts // arguments.share) for name, (images, texts) in FULL.items()
    }
    for metric in REFERENCES:
        write_checkpoint(metric, Path(os.environ["PSDBENCH_WEIGHTS"]), layers, pythons, vocabulary(root), say)
    material = write_renders(root / "renders", arguments.assets, arguments.views)
    lines, theirs = [], {}
    for metric, references in REFERENCES.items():
        reference = references[-1]  # of CLIP score torchmetrics, which calls itself by that name
        python = find_python(reference, [*pythons.values(), Path(sys.executable)])
        answer = ask_official(metric, reference, python, material)
        package = f"{reference.package} {next(iter(answer['versions'].values()))}"
        lines.append(Line(metric, package, layers.get(metric, layers["clip_vit_l14"]), answer["cost"]))
        theirs[metric] = answer["scores"]
        say(str(lines[-1]))
    ours = ask_ours(material)
    say(str(ours["cost"]))
    facts = {"assets": arguments.assets, "views": arguments.views, "share": arguments.share, "side": SIDE}
    processor = f"{_processor()}, {torch.backends.cpu.get_cpu_capability()}"
    gap = max(_gap(theirs[metric], ours["scores"][metric]) for metric in theirs)
    page = as_markdown(lines, ours["cost"], gap, facts, processor)
    (arguments.table / "SPEED.md").write_text(page, encoding="utf-8")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--share", type=int, default=4, help="of the official layers each tower has one in N")
    parser.add_argument(
        "--assets", type=int, default=8, choices=range(1, len(SUBJECTS) + 1), help="assets, a prompt each"
    )
    parser.add_argument("--views", type=int, default=8, help="renders of each asset")
    parser.add_argument("--table", type=Path, default=HERE, help="folder of SPEED.md")
    parser.add_argument(
        "--root", type=Path, default=Path(".parity"), help="where environments and weights lie"
    )
    return parser.parse_args()


def say(text: str) -> None:
    """A line of progress."""
    print(text, file=sys.stderr, flush=True)


def write_renders(folder: Path, assets: int, views: int) -> Material:
    """What prompts of the embedded world name, from the evaluation cameras, as PNG files; each with its prompt."""
    from PIL import Image

    folder.mkdir(parents=True, exist_ok=True)
    prompts = [Prompt(subject) for subject in SUBJECTS[:assets]]
    pictures, pairs = [], []
    for number, prompt in enumerate(prompts):
        for view in range(views):
            path = folder / f"{prompt.text.replace(' ', '-')}-{view}.png"
            if not path.is_file():
                Image.fromarray(render(prompt.text, view, SIDE, SIDE)).save(path)
            pairs.append((len(pictures), number))
            pictures.append(path)
    return Material(pictures, prompts, pairs)


def ask_ours(material: Material) -> dict[str, Any]:
    """Scores by scorer and cost of psdbench, in a process of its own."""
    request = {"pictures": [str(path) for path in material.pictures], "pairs": list(material.pairs)}
    request |= {"prompts": [prompt.text for prompt in material.prompts], "metrics": list(REFERENCES)}
    with tempfile.TemporaryDirectory() as place:
        asked, answered = Path(place, "request.json"), Path(place, "answer.json")
        asked.write_text(json.dumps(request), encoding="utf-8")
        script = [sys.executable, str(HERE / "our_side.py"), str(asked), str(answered)]
        subprocess.run(script, check=True, env=os.environ | {"CUDA_VISIBLE_DEVICES": ""})
        answer: dict[str, Any] = json.loads(answered.read_text(encoding="utf-8"))
    return answer


def _processor() -> str:
    """What the processor calls itself, where the system tells; else its architecture."""
    file = Path("/proc/cpuinfo")
    lines = file.read_text(encoding="utf-8").splitlines() if file.is_file() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def _gap(theirs: list[float], ours: list[float]) -> float:
    """The largest difference in standard deviations of their scores; as it is where they are all one, as at 0."""
    return max(abs(a - b) for a, b in zip(theirs, ours, strict=True)) / (statistics.pstdev(theirs) or 1.0)


if __name__ == "__main__":
    main()
