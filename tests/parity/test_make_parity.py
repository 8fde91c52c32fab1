"""The whole of `make parity` at its smallest, where its environments have been built."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[2]
BUILT = [REPOSITORY / ".parity" / name / "pins.txt" for name in ("image_reward", "hpsv2")]


@pytest.mark.slow
@pytest.mark.skipif(
    not all(path.is_file() for path in BUILT), reason=".parity/ is not there: run `make parity` once"
)
@pytest.mark.parametrize("metric", ["image_reward_v1.0", "hps_v2.1", "clip_vit_b32"])
def test_one_layer_agrees_with_the_official_package(metric: str, tmp_path: Path) -> None:
    command = [sys.executable, "tests/parity/make_parity.py", "--table", str(tmp_path)]
    command += ["--metrics", metric, "--depth", "1", "--pictures", "1"]
    subprocess.run(command, cwd=REPOSITORY, check=True)
    rows = json.loads((tmp_path / "rows.json").read_text())
    assert {row["metric"] for row in rows} == {metric}
    assert all(row["largest"] <= 1e-4 * row["sd"] for row in rows)
    assert metric in (tmp_path / "README.md").read_text()
