"""What `make bench` and `make gpu` measured, as a page: README.md with growth.svg and growth.csv, or GPU.md.

python tests/benchmarks/make_page.py FIGURES.json [--gpu] [--folder FOLDER]
"""

from __future__ import annotations

import argparse
import csv
import json
import platform
import sys
from collections.abc import Iterable, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
TEMPLATE = HERE / "README.template.md"
MAX_FLOOR, MIN_PLAIN = 1.10, 1.5
"""aims: a step over its floor at most, and plain diffusers over a step at least"""
BF16_TFLOPS = {"H100": 989, "H200": 989, "A100": 312, "L40S": 362, "L4": 121}
"""dense limits of cards by their data sheets"""
PARTS = ("render", "encode", "method", "backward", "adam", "rest")
BARE = ("render", "encode", "denoise", "decode", "reward", "adapter", "train", "adam")

Figures = Mapping[str, Any]


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """In Markdown."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def spread(values: Sequence[float], digits: int) -> str:
    """A median with its interval."""
    middle, low, high = (f"{value:.{digits}f}" for value in values)
    return f"{middle} ({low}-{high})"


def name(step: Figures) -> list[str]:
    """The first cells of a row."""
    return [step["prior"], step["method"], str(step["views"])]


NAME = ("prior", "method", "views")


def step_table(steps: Sequence[Figures]) -> str:
    """Milliseconds and the three ratios."""
    rows = [
        [
            *name(step),
            spread(step["step_ms"], 0),
            *(spread(step[key], 2) for key in ("floor", "plain", "batched")),
            f"{100 * shared(step):.0f} %",
            str(step["rounds"]),
        ]
        for step in steps
    ]
    return table([*NAME, "ms", "floor", "plain", "batched", "shared", "n"], rows)


def shared(step: Figures) -> float:
    """The share of a step that is not the method's: plain diffusers has the same renderer and encoder."""
    return 1 - step["parts_ms"].get("method", 0.0) / sum(step["parts_ms"].values())


def cells(values: Mapping[str, float], names: Sequence[str]) -> list[str]:
    """Numbers by name, a blank for what is not there."""
    return [f"{values[each]:.1f}" if each in values else "" for each in names]


def hardware_table(steps: Sequence[Figures]) -> str:
    """FLOPs, their rate, its limit, and memory."""
    rows = [
        [
            *name(step),
            f"{step['gflop']:.1f}",
            f"{step['gflops']:.0f}",
            f"{step['limit_gflops']:.0f}",
            f"{100 * step['gflops'] / step['limit_gflops']:.0f} %",
            f"{1e3 / step['step_ms'][0]:.2f}",
            f"{step['memory_mb']:.0f}",
        ]
        for step in steps
    ]
    return table([*NAME, "GFLOP", "GFLOP/s", "product", "share", "steps/s", "memory MB"], rows)


def aims(steps: Sequence[Figures]) -> str:
    """Which aims are met, and by how much others are missed."""
    told = []
    for key, aim, missed, worst in (
        ("floor", f"at most {MAX_FLOOR:.2f} times the floor", lambda ratio: ratio > MAX_FLOOR, 2),
        ("plain", f"plain diffusers at least {MIN_PLAIN} times a step", lambda ratio: ratio < MIN_PLAIN, 1),
    ):
        short = [f"{' '.join(name(step)[:2])} {step[key][0]:.2f}" for step in steps if missed(step[key][0])]
        sure = sum(not missed(step[key][worst]) for step in steps)
        rest = f"; missed by {', '.join(short)}" if short else ""
        told.append(
            f"Aim: {aim}. Met by {len(steps) - len(short)} of {len(steps)} medians, "
            f"by {sure} with their whole interval{rest}."
        )
    return "\n\n".join(told)


def growth_table(axes: Sequence[Figures]) -> str:
    """Points and lines."""
    rows = []
    for axis in axes:
        for what, unit, values in (("seconds", "ms", axis["step_ms"]), ("memory", "MB", axis["memory_mb"])):
            points = ", ".join(f"{x}: {y:.0f}" for x, y in zip(axis["values"], values, strict=True))
            fit = axis["fits"][what]
            first = fit["start"] / (fit["start"] + fit["slope"] * axis["work"][0])
            rows.append(
                [
                    axis["axis"],
                    axis["representation"],
                    f"{unit} at {points}",
                    f"{fit['r2']:.4f}",
                    f"{first:.2f}",
                ]
            )
    return table(["axis", "representation", "cost", "R²", "first"], rows)


def pack_table(packs: Sequence[Figures]) -> str:
    """How many more jobs an hour packs of several sizes do."""
    sizes = list(packs[0]["gain"])
    rows = [
        [
            pack["prior"],
            pack["method"],
            *(spread(pack["gain"][size], 2) for size in sizes),
            str(pack["rounds"]),
        ]
        for pack in packs
    ]
    return table(["prior", "method", *(f"{size} jobs" for size in sizes), "n"], rows)


def write_growth(axes: Sequence[Figures], folder: Path) -> None:
    """growth.csv and growth.svg."""
    import matplotlib

    matplotlib.use("svg")
    from matplotlib import pyplot

    with (folder / "growth.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["axis", "representation", "value", "work", "ms", "memory_mb"])
        for axis in axes:
            points = zip(axis["values"], axis["work"], axis["step_ms"], axis["memory_mb"], strict=True)
            writer.writerows([axis["axis"], axis["representation"], *point] for point in points)
    pyplot.rcParams.update({"svg.hashsalt": "psdbench", "svg.fonttype": "none"})
    figure, panels = pyplot.subplots(2, len(axes), figsize=(4 * len(axes), 6), squeeze=False)
    for column, axis in enumerate(axes):
        for row, (what, unit, values) in enumerate(
            (("seconds", "ms", axis["step_ms"]), ("memory", "MB", axis["memory_mb"]))
        ):
            fit, scale = axis["fits"][what], 1e3 if what == "seconds" else 1
            panel = panels[row][column]
            panel.plot(
                axis["work"],
                [scale * (fit["start"] + fit["slope"] * x) for x in axis["work"]],
                "-",
                color="0.6",
            )
            panel.plot(axis["work"], values, "o")
            panel.set(xlabel=axis["axis"], ylabel=f"{unit} of a step", xlim=(0, None), ylim=(0, None))
            panel.set_title(f"R² {fit['r2']:.4f}", fontsize="medium")
    figure.tight_layout()
    figure.savefig(folder / "growth.svg", metadata={"Date": None})
    pyplot.close(figure)


def versions() -> str:
    """Of what the figures hang on."""
    packages = ("torch", "diffusers", "transformers", "peft")
    return ", ".join(
        [f"Python {platform.python_version()}", *(f"{each} {version(each)}" for each in packages)]
    )


def write_page(measured: Figures, folder: Path) -> None:
    """README.md with its plot and its table."""
    found = [entry["extra_info"] for entry in measured["benchmarks"]]
    steps = [info for info in found if "floor" in info]
    axes, packs = ([info for info in found if key in info] for key in ("axis", "gain"))
    processor = measured["machine_info"]["cpu"]
    page = TEMPLATE.read_text(encoding="utf-8").format(
        machine=processor.get("brand_raw", "an unnamed processor"),
        versions=versions(),
        steps=step_table(steps),
        narrow_size=max(step["size"] for step in steps),
        aims=aims(steps),
        parts=table([*NAME, *PARTS], ([*name(step), *cells(step["parts_ms"], PARTS)] for step in steps)),
        bare=table([*NAME, *BARE], ([*name(step), *cells(step["bare_ms"], BARE)] for step in steps)),
        hardware=hardware_table(steps),
        growth=growth_table(axes),
        packs=pack_table(packs),
    )
    (folder / "README.md").write_text(page, encoding="utf-8")
    write_growth(axes, folder)


def write_gpu_page(measured: Figures, folder: Path) -> None:
    """GPU.md: the official sizes."""
    found = [entry["extra_info"] for entry in measured["benchmarks"]]
    steps, packs = ([info for info in found if key in info] for key in ("floor", "gain"))
    if not steps:
        sys.exit(
            "no step was measured on a GPU, and no page written: run `make gpu` where there is a CUDA device"
        )
    card = steps[0]["card"]
    limit = next((value for key, value in BF16_TFLOPS.items() if key in card), None)
    known = f", {limit} TFLOP/s in bf16 by its data sheet" if limit else ""
    parts = ([*name(step), *cells(step["parts_ms"], PARTS)] for step in steps)
    page = [
        f"# What a step costs at the official sizes\n\n{card}{known}; {versions()}. Written by `make gpu`; what the "
        "columns mean is in README.md beside this file.",
        *(step_table(steps), aims(steps), hardware_table(steps), table([*NAME, *PARTS], parts)),
        *(["Packs, as in README.md:", pack_table(packs)] if packs else []),
    ]
    (folder / "GPU.md").write_text("\n\n".join(page) + "\n", encoding="utf-8")


def main() -> None:
    """From pytest-benchmark's JSON to the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("figures", type=Path)
    parser.add_argument("--gpu", action="store_true", help="the page of the official sizes")
    parser.add_argument("--folder", type=Path, default=HERE)
    arguments = parser.parse_args()
    measured = json.loads(arguments.figures.read_text(encoding="utf-8"))
    (write_gpu_page if arguments.gpu else write_page)(measured, arguments.folder)


if __name__ == "__main__":
    main()
