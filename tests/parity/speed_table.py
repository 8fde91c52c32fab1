"""SPEED.md: what `make speed` measured, and how far it is from what the arithmetic allows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

Cost = Mapping[str, float]
"""CPU seconds `loading`, `rereading` and `scoring`, and `megabytes` at most"""
TEMPLATE = Path(__file__).with_name("SPEED.template.md")
HEADER = ("metric", "by", "layers", "loads once", "reads again", "scores", "per render", "memory")
TOWERS = {
    "clip_vit_l14": ((1024, 257), (768, 77)),
    "clip_vit_b32": ((768, 50), (512, 77)),
    "clip_vit_b16": ((768, 197), (512, 77)),
    "image_reward_v1.0": ((1024, 197), (768, 35)),
    "hps_v2.0": ((1280, 257), (1024, 77)),
    "hps_v2.1": ((1280, 257), (1024, 77)),
    "pickscore_v1": ((1280, 257), (1024, 77)),
}
"""width and tokens of the towers of images and of texts"""
EACH_TIME = ("image_reward_v1.0", "hps_v2.0", "hps_v2.1")
"""whose packages run the tower of texts, its tokens padded, for every render; the others for so few tokens that it
does not count"""


@dataclass(frozen=True)
class Line:
    """What scoring all renders by one package costs."""

    metric: str
    package: str
    layers: tuple[int, int]
    cost: Cost


def gigaflops(width: int, tokens: int, layers: int, across: tuple[int, int] = (0, 0)) -> float:
    """Of a transformer's products for one input; `across`: width and tokens of what every layer also attends to."""
    beside, seen = across
    own = 12 * tokens * width**2 + 2 * tokens**2 * width
    other = 2 * tokens * width**2 + 2 * seen * beside * width + 2 * tokens * seen * width if seen else 0
    return 2 * layers * (own + other) / 1e9


def arithmetic(lines: Sequence[Line], views: int) -> tuple[float, float]:
    """GFLOP per render that the packages need, and that we need: one tower of images less, texts once per prompt."""
    theirs = ours = 0.0
    for line in lines:
        towers = TOWERS.get(line.metric, TOWERS["clip_vit_l14"])
        image = gigaflops(*towers[0], line.layers[0])
        text = gigaflops(
            *towers[1], line.layers[1], towers[0] if line.metric == "image_reward_v1.0" else (0, 0)
        )
        shared = line.metric not in TOWERS  # the aesthetic head looks with the CLIP score's tower
        theirs += image + text * (line.metric in EACH_TIME)
        ours += 0 if shared else image + text / (1 if line.metric == "image_reward_v1.0" else views)
    return theirs, ours


def as_markdown(
    lines: Sequence[Line], ours: Cost, gap: float, facts: Mapping[str, int], processor: str
) -> str:
    """The page."""
    renders = facts["assets"] * facts["views"]
    total: Cost = {key: sum(line.cost[key] for line in lines) for key in ("loading", "rereading", "scoring")}
    total = {**total, "megabytes": max(line.cost["megabytes"] for line in lines)}
    rows = [
        (line.metric, line.package, "{} + {}".format(*line.layers), *_cells(line.cost, renders))
        for line in lines
    ]
    rows += [("all, one after the other", "the packages", "", *_cells(total, renders))]
    rows += [("all, in one go", "psdbench", "", *_cells(ours, renders))]
    table = [HEADER, ["---"] * len(HEADER), *rows]
    flops = arithmetic(lines, facts["views"])
    again = total["rereading"] + total["scoring"]
    values = {
        **facts,
        "renders": renders,
        "table": "\n".join("| " + " | ".join(row) + " |" for row in table),
        "warm": total["scoring"] / ours["scoring"],
        "readme": again / ours["scoring"],
        "whole": (total["loading"] + again) / (ours["loading"] + ours["scoring"]),
        "theirs_flops": flops[0],
        "ours_flops": flops[1],
        "floor": flops[0] / flops[1],
        "theirs_rate": flops[0] * renders / total["scoring"],
        "ours_rate": flops[1] * renders / ours["scoring"],
        "gap": gap,
        "processor": processor,
    }
    return TEMPLATE.read_text(encoding="utf-8").format(**values)


def _cells(cost: Cost, renders: int) -> list[str]:
    seconds = [f"{cost[key]:.1f} s" for key in ("loading", "rereading", "scoring")]
    each = (cost["rereading"] + cost["scoring"]) / renders
    return [*seconds, f"{each:.2f} s", f"{cost['megabytes']:.0f} MB"]
