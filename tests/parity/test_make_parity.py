"""The table of `make parity`, and the whole of it at its smallest where its environments have been built."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import asdict, replace
from pathlib import Path

import pytest
from make_parity import _known_rows, _write

from psdbench.parity.compare import Row

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


def test_the_table_keeps_the_row_of_most_layers(tmp_path: Path) -> None:
    deep = Row("hps_v2.1", "hpsv2", {"hpsv2": "1.2.0"}, (32, 24), 18, 40, 40, 0.1, 1e-7, "a: b")
    shallow, again = replace(deep, layers=(2, 2), pairs=7), replace(deep, pairs=160)
    other = replace(deep, metric="hps_v2.0", layers=(2, 2))
    (tmp_path / "rows.json").write_text(
        json.dumps([asdict(row) for row in (shallow, deep, other, again, shallow)])
    )
    rows = _known_rows(tmp_path / "rows.json")
    assert rows == {("hps_v2.0", "hpsv2"): other, ("hps_v2.1", "hpsv2"): again}
    _write(rows, tmp_path)
    assert _known_rows(tmp_path / "rows.json") == rows
    page = (tmp_path / "README.md").read_text()
    assert "| hps_v2.1 | hpsv2 1.2.0 | 32 + 24 | 18 | 40 | 160 |" in page
    assert page.count("| hpsv2 1.2.0 |") == 2
