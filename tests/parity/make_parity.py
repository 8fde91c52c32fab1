"""`make parity`: environments, random checkpoints, comparison, and the table in README.md beside this file.

python tests/parity/make_parity.py [--metrics hps_v2.1,…] [--depth N] [--pictures N]
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
from dataclasses import asdict
from pathlib import Path

from checkpoints import FULL, write_checkpoint
from environments import PACKAGES, build, vocabulary

from psdbench.launch.notes import quiet_libraries
from psdbench.parity.compare import BOUND, Material, Row, choose_pairs, compare
from psdbench.parity.pictures import PICTURES, write_pictures
from psdbench.parity.prompts import PROMPTS
from psdbench.parity.references import REFERENCES
from psdbench.parity.table import markdown

HERE = Path(__file__).parent


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
    layers = dict.fromkeys(FULL, (arguments.depth, arguments.depth)) if arguments.depth else FULL
    for metric in arguments.metrics.split(","):
        write_checkpoint(metric, library, layers, pythons, vocabulary(root), say)
        for row in compare(metric, material, list(pythons.values()), say):
            _keep(row, rows)
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


Rows = dict[tuple[str, str], Row]
"""by metric and package"""


def _keep(row: Row, rows: Rows) -> None:
    """Put a row into the table unless there is one of more layers."""
    key = row.metric, row.package
    if key not in rows or rows[key].layers <= row.layers:
        rows[key] = row


def _known_rows(file: Path) -> Rows:
    """The rows measured before."""
    rows: Rows = {}
    for stored in json.loads(file.read_text(encoding="utf-8")) if file.is_file() else []:
        _keep(Row(**{**stored, "layers": tuple(stored["layers"])}), rows)
    return rows


def _write(rows: Rows, folder: Path) -> None:
    """rows.json and README.md."""
    order = list(REFERENCES)
    listed = sorted(rows.values(), key=lambda row: (order.index(row.metric), row.package))
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
