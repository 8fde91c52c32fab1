"""`make parity`: environments, random checkpoints, comparison, and the table in README.md beside this file.

python tests/parity/make_parity.py [--metrics hps_v2.1,…] [--depth N] [--pictures N]
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path

import random_checkpoints
from environments import PACKAGES, build, vocabulary
from vocabularies import write_bert_tokenizer, write_clip_tokenizer

from psdbench.launch.notes import quiet_libraries
from psdbench.parity.compare import BOUND, Material, Row, choose_pairs, compare
from psdbench.parity.pictures import PICTURES, write_pictures
from psdbench.parity.prompts import PROMPTS
from psdbench.parity.references import REFERENCES
from psdbench.parity.table import markdown
from psdbench.scorers.official import OFFICIAL

HERE = Path(__file__).parent
FULL = {
    "image_reward_v1.0": (24, 12),
    "hps_v2.0": (32, 24),
    "hps_v2.1": (32, 24),
    "clip_vit_l14": (24, 12),
    "clip_vit_b32": (12, 12),
    "clip_vit_b16": (12, 12),
    "pickscore_v1": (32, 24),
}
"""layers of the official towers"""


def main() -> int:
    """0 where every scorer keeps the bound, else 1."""
    arguments = _arguments()
    root = arguments.root.resolve()
    pythons = {name: build(name, root) for name in PACKAGES}
    library = root / f"weights-{arguments.depth or 'full'}"
    os.environ["PSDBENCH_WEIGHTS"] = str(library)
    quiet_libraries()
    paths = write_pictures(root / "pictures")
    material = Material(paths, PROMPTS, choose_pairs(len(paths), len(PROMPTS), arguments.pictures))
    rows = _known_rows(arguments.table / "rows.json")
    for metric in arguments.metrics.split(","):
        _checkpoint(metric, library, arguments.depth, pythons, vocabulary(root))
        for row in compare(metric, material, list(pythons.values()), say):
            rows[_key(row)] = row
            say(markdown([row]).splitlines()[-1])
            _write(rows, arguments.table)
    return 0 if all(row.within for row in rows.values()) else 1


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--metrics", default=",".join(REFERENCES), help="scorers, by their full ids")
    parser.add_argument("--depth", type=int, default=0, help="layers of every tower; 0: as the official ones")
    parser.add_argument("--pictures", type=int, default=4, help=f"pictures per prompt, up to {len(PICTURES)}")
    parser.add_argument("--table", type=Path, default=HERE, help="folder of README.md and rows.json")
    parser.add_argument(
        "--root", type=Path, default=Path(".parity"), help="where environments and weights lie"
    )
    return parser.parse_args()


def say(text: str) -> None:
    """A line of progress."""
    print(text, file=sys.stderr, flush=True)


def _checkpoint(metric: str, library: Path, depth: int, pythons: dict[str, Path], bpe: Path) -> None:
    """Make the folder of a scorer where it is not there; its score.json, written last, says that it is whole."""
    folder = library / metric
    if metric == "aesthetic_laion_v2":
        _checkpoint("clip_vit_l14", library, depth, pythons, bpe)
    if (folder / "score.json").is_file():
        return
    say(f"{metric}: random weights")
    folder.mkdir(parents=True, exist_ok=True)
    kind, python = _maker(metric, pythons)
    layers = (depth, depth) if depth else FULL.get(metric, (0, 0))
    settings: dict[str, object] = {
        "weights": {"clip": "random.safetensors", "aesthetic": "random.pth"}.get(kind)
    }
    if kind == "image_reward":
        write_bert_tokenizer(folder, bpe)
    elif kind != "aesthetic":
        write_clip_tokenizer(folder, bpe)
    if kind in ("image_reward", "hpsv2"):
        settings = {"weights": "random.pt", "config": _with_layers(OFFICIAL[metric]["config"], layers)}
    script = [str(python), "-I", random_checkpoints.__file__, kind, str(folder), *map(str, layers)]
    with tempfile.TemporaryDirectory() as place:
        (Path(place) / "bert-base-uncased").symlink_to(folder)
        offline = os.environ | {"HF_HUB_OFFLINE": "1"}
        subprocess.run([*script, str(list(REFERENCES).index(metric))], cwd=place, env=offline, check=True)
    (folder / "score.json").write_text(json.dumps(settings), encoding="utf-8")


def _maker(metric: str, pythons: dict[str, Path]) -> tuple[str, Path]:
    """Which function of random_checkpoints makes a scorer's file, under which interpreter."""
    if metric.startswith("image_reward"):
        return "image_reward", pythons["image_reward"]
    if metric.startswith("hps"):
        return "hpsv2", pythons["hpsv2"]
    return "aesthetic" if metric.startswith("aesthetic") else "clip", Path(sys.executable)


def _with_layers(config: dict[str, dict[str, object]], layers: tuple[int, int]) -> dict[str, object]:
    towers = dict(zip(("vision_config", "text_config"), layers, strict=True))
    changed = {name: {**config[name], "num_hidden_layers": n} for name, n in towers.items() if name in config}
    return {**config, **changed}


def _key(row: Row) -> str:
    return f"{row.metric} {row.package} {row.layers}"


def _known_rows(file: Path) -> dict[str, Row]:
    """The rows measured before, by metric, package and depth."""
    stored = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else []
    rows = [Row(**{**row, "layers": tuple(row["layers"])}) for row in stored]
    return {_key(row): row for row in rows}


def _write(rows: dict[str, Row], folder: Path) -> None:
    """rows.json and README.md."""
    order = list(REFERENCES)
    listed = sorted(rows.values(), key=lambda row: (order.index(row.metric), row.package, row.layers))
    stored = json.dumps([asdict(row) for row in listed], indent=1)
    (folder / "rows.json").write_text(stored + "\n", encoding="utf-8")
    template = (HERE / "README.template.md").read_text(encoding="utf-8")
    packages = {
        f"{row.package}: " + ", ".join(f"{name} {v}" for name, v in sorted(row.versions.items()))
        for row in listed
    }
    import torch
    import transformers

    facts = {
        "table": markdown(listed),
        "bound": f"{BOUND:.0e}",
        "versions": "\n".join(f"- {line}" for line in sorted(packages)),
        "ours": f"Python {platform.python_version()}, torch {torch.__version__.partition('+')[0]}, "
        f"transformers {transformers.__version__}",
    }
    (folder / "README.md").write_text(template.format(**facts), encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())
