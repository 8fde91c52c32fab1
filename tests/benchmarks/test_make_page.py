"""The page says what was measured, which aims are missed, and nothing where nothing was measured."""

from __future__ import annotations

import csv
import xml.etree.ElementTree as ElementTree
from pathlib import Path
from typing import Any

import pytest
from make_page import aims, spread, write_gpu_page, write_page
from measuring import line


def step(method: str, floor: float, plain: float, prior: str = "shapes") -> dict[str, Any]:
    return {
        "prior": prior,
        "method": method,
        "card": "NVIDIA H100 80GB HBM3",
        "views": 1,
        "size": 64,
        "rounds": 40,
        "step_ms": [50.0, 45.0, 56.0],
        "parts_ms": {"render": 12.5, "method": 20.0},
        "bare_ms": {"render": 11.0, "denoise": 19.0},
        "floor": [floor, floor - 0.02, floor + 0.02],
        "plain": [plain, plain - 0.1, plain + 0.1],
        "batched": [1.25, 1.2, 1.3],
        "gflop": 3.0,
        "gflops": 60.0,
        "limit_gflops": 120.0,
        "memory_mb": 80.0,
    }


def axis(name: str) -> dict[str, Any]:
    work, ms, mb = [1.0, 2.0, 4.0], [20.0, 30.0, 50.0], [10.0, 20.0, 40.0]
    fits = {"seconds": line(work, [v / 1e3 for v in ms]), "memory": line(work, mb)}
    return {
        "axis": name,
        "representation": "voxels",
        "values": [1, 2, 4],
        "work": work,
        "step_ms": ms,
        "memory_mb": mb,
        "fits": fits,
    }


PACK = {
    "prior": "shapes",
    "method": "sds",
    "rounds": 12,
    "gain": {"2": [1.1, 1.0, 1.2], "4": [1.2, 1.1, 1.3]},
}


def measured(*infos: dict[str, Any]) -> dict[str, Any]:
    benchmarks = [{"extra_info": info} for info in infos]
    return {"benchmarks": benchmarks, "machine_info": {"cpu": {"brand_raw": "A Processor"}}}


def test_the_page_has_every_figure_and_a_plot(tmp_path: Path) -> None:
    other = {"images": 64, "ratio": 2.4}  # of another benchmark
    write_page(measured(step("sds", 1.04, 1.7), other, PACK, axis("views"), axis("pixels")), tmp_path)
    page = (tmp_path / "README.md").read_text(encoding="utf-8")
    row = "| shapes | sds | 1 | 50 (45-56) | 1.04 (1.02-1.06) | 1.70 (1.60-1.80) | 1.25 (1.20-1.30) | 38 % | 40 |"
    assert row in page
    assert "| shapes | sds | 1.10 (1.00-1.20) | 1.20 (1.10-1.30) | 12 |" in page
    assert "| shapes | sds | 1 | 12.5 |  | 20.0 |  |  |  |" in page
    assert "| 3.0 | 60 | 120 | 50 % | 20.00 | 80 |" in page
    assert "| views | voxels | ms at 1: 20, 2: 30, 4: 50 | 1.0000 | 0.50 |" in page
    assert "A Processor" in page
    with (tmp_path / "growth.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [float(row["memory_mb"]) for row in rows] == [10.0, 20.0, 40.0] * 2
    assert ElementTree.parse(tmp_path / "growth.svg").getroot().tag.endswith("svg")


def test_a_missed_aim_is_told() -> None:
    text = aims([step("sds", 1.04, 1.7), step("vsd", 1.31, 1.2)])
    assert text.splitlines() == [
        "Aim: at most 1.10 times the floor. Met by 1 of 2 medians, by 1 with their whole interval; "
        "missed by shapes vsd 1.31.",
        "",
        "Aim: plain diffusers at least 1.5 times a step. Met by 1 of 2 medians, by 1 with their whole interval; "
        "missed by shapes vsd 1.20.",
    ]
    assert "Met by 1 of 1 medians, by 0 with their whole interval." in aims([step("sds", 1.09, 1.55)])


def test_the_page_of_a_gpu_names_the_card_and_its_limit(tmp_path: Path) -> None:
    write_gpu_page(measured(step("psd", 1.02, 1.9, "sd15-bfloat16-4")), tmp_path)
    page = (tmp_path / "GPU.md").read_text(encoding="utf-8")
    assert "NVIDIA H100 80GB HBM3, 989 TFLOP/s in bf16 by its data sheet" in page
    assert "| sd15-bfloat16-4 | psd | 1 |" in page


def test_without_a_gpu_no_page_is_written(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match="no step was measured on a GPU"):
        write_gpu_page(measured({"images": 64}), tmp_path)
    assert not list(tmp_path.iterdir())


def test_numbers_with_their_interval() -> None:
    assert spread([1.234, 1.1, 1.5], 2) == "1.23 (1.10-1.50)"
