"""Statistics of pictures that are known by construction; points on a known surface; gains in a known unit."""

from __future__ import annotations

import io
from collections.abc import Callable

import numpy as np
import pytest
from made_up_runs import PROMPTS, RunMaker
from PIL import Image

from psdbench.report import build_report, imagery
from psdbench.report.cost import quality_against
from psdbench.report.hacking import drift_table, gains, gains_table
from psdbench.report.imagery import read_imagery, statistics, strip
from psdbench.report.points import merged

Maker = Callable[..., RunMaker]


def test_a_flat_square_on_white() -> None:
    picture = np.ones((20, 20, 3), dtype=np.float32)
    picture[5:15, 5:15] = (0.8, 0.2, 0.2)
    found = statistics(picture)
    assert found["coverage"] == pytest.approx(0.25)
    assert found["saturation"] == pytest.approx(0.75, abs=1e-6)
    assert found["colour entropy"] == 0
    assert found["edge density"] == pytest.approx(36 / 100)  # its outermost pixels


def test_two_colours_are_one_bit_and_nothing_has_no_statistics() -> None:
    picture = np.ones((20, 20, 3), dtype=np.float32)
    picture[5:15, 5:10], picture[5:15, 10:15] = (1, 0, 0), (0, 0, 1)
    assert statistics(picture)["colour entropy"] == pytest.approx(1)
    assert statistics(np.ones((8, 8, 3), dtype=np.float32)) == {}


def test_strips_that_are_too_large_together_lose_quality_not_size(
    make_run: Maker, monkeypatch: pytest.MonkeyPatch
) -> None:
    maker, rng = make_run(prompts=PROMPTS[:1]), np.random.default_rng(0)
    for path in maker.run.glob("jobs/*/renders/*.png"):
        Image.fromarray(rng.integers(0, 256, (32, 32, 3), dtype=np.uint8)).save(path)
    results = build_report([maker.run]).results
    whole = read_imagery(results)
    room = sum(len(each.strip) for each in whole.values()) // 2
    monkeypatch.setattr(imagery, "ROOM", room)
    small = read_imagery(results)
    assert 0 < sum(len(each.strip) for each in small.values()) <= room
    for folder, each in small.items():
        assert Image.open(io.BytesIO(each.strip)).size == Image.open(io.BytesIO(whole[folder].strip)).size
        assert each.statistics == whole[folder].statistics


def test_a_strip_never_enlarges() -> None:
    pictures = [Image.new("RGB", (32, 32), colour) for colour in ("red", "blue")]
    assert Image.open(io.BytesIO(strip(pictures, 128))).size == (64, 32)
    assert Image.open(io.BytesIO(strip(pictures, 16))).size == (32, 16)


def test_points_are_merged_until_few_enough() -> None:
    rng = np.random.default_rng(0)
    places = rng.uniform(-0.5, 0.5, size=(20_000, 3))
    colours = np.tile([1.0, 0.5, 0.0], (20_000, 1))
    cloud = merged(places, colours, 900)
    assert 300 < len(cloud) <= 900
    raw = np.frombuffer(cloud.packed, dtype=np.uint8).reshape(-1, 6)
    assert np.abs(raw[:, :3] / 127.5 - 1).max() < 0.51
    assert set(map(tuple, raw[:, 3:])) == {(255, 128, 0)}


def test_gains_are_in_deviations_of_the_baseline(make_run: Maker) -> None:
    report = build_report([make_run().run])
    found = {(g.method, g.metric): g for g in gains(report.analysis, report.results)}
    assert {key: g.kind for key, g in found.items()} == {
        ("psd", "hps_shapes"): "trained on",
        ("psd", "clip_shapes"): "held out",
        ("psd", "true_preference"): "truth",
    }
    levels = [report.analysis.by_prompt[p, "sds", "hps_shapes"][1] for p in PROMPTS]
    difference = report.analysis.comparisons["psd", "hps_shapes"].difference
    expected = difference.mean / np.std(levels, ddof=1) if difference.mean else None
    assert found["psd", "hps_shapes"].value.mean == pytest.approx(expected)
    table = gains_table(report.analysis, report.results)
    assert table is not None
    assert [cell.text for cell in table.rows[0][:2]] == ["psd", "hps_shapes"]
    assert table.rows[0][4].text == "1 scorer"


def test_drift_is_told_against_the_baseline(make_run: Maker) -> None:
    maker = make_run(methods=["sds"], prompts=[*PROMPTS, "a cone", "a pink cube"], seeds=(0,))
    for prompt in [*PROMPTS, "a cone", "a pink cube"]:
        folder = maker.finished("loud", prompt, 0)
        for index, path in enumerate(sorted((folder / "renders").iterdir())):
            pixels = np.full((32, 32, 3), 255, dtype=np.uint8)
            pixels[2 : 29 + len(prompt) % 3, 2:30] = (255, 0, index)
            Image.fromarray(pixels).save(path)
    report = build_report([maker.run])
    imagery = read_imagery(report.results)
    table = drift_table(report.analysis, report.results, imagery)
    assert table is not None
    names = list(table.header)
    loud = dict(zip(names, table.rows[1], strict=True))
    assert loud["method"].text == "loud"
    assert loud["coverage"].mark == "told"
    assert loud["coverage"].text.startswith("+0.3")


def test_no_cheaper_method_is_as_good_as_one_on_the_front(make_run: Maker) -> None:
    report = build_report([make_run(methods=["sds", "psd", "waste"]).run])
    metric = report.analysis.metric("hps_shapes")
    assert metric is not None
    points = quality_against(report.analysis, report.results, metric, "denoiser_forwards")
    assert [(p.method, p.cost) for p in points] == [("sds", 20), ("psd", 60), ("waste", 60)]
    assert [p.front for p in points] == [True, True, False]
