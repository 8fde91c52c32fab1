"""Folders of renders as other programs leave them: real files in the layouts that are read."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

COLOURS = ("#c81e1e", "#1e3cc8", "#2f9e44")
YAML = """name: {name}
seed: {seed}
system:
  prompt_processor_type: stable-diffusion-prompt-processor
  prompt_processor:
    prompt: {prompt}
data:
  eval_elevation_deg: 20.0
"""


def draw(path: Path, colour: str = COLOURS[0], number: int = 0, size: int = 32, mode: str = "RGB") -> Path:
    """A disc that moves with its number, on white or on nothing."""
    path.parent.mkdir(parents=True, exist_ok=True)
    picture = Image.new(mode, (size, size), (255, 255, 255, 0) if mode == "RGBA" else "white")
    left = size // 4 + number % 4
    ImageDraw.Draw(picture).ellipse((left, size // 4, left + size // 2, 3 * size // 4), fill=colour)
    picture.save(path)
    return path


def gpteval3d(root: Path, views: int = 16) -> Path:
    """Two methods and two prompts, a seed each, with normals beside the colours."""
    (root / "methods").mkdir(parents=True)
    (root / "prompts.json").write_text('["A torn hat", "A soft sofa"]')
    for method, colour in (("mvdream", COLOURS[0]), ("sjc", COLOURS[1])):
        for prompt in ("0", "1"):
            for view in range(views):
                draw(root / "methods" / method / prompt / "0" / f"rgb_{view}.png", colour, view)
                draw(root / "methods" / method / prompt / "0" / f"normal_{view}.png", "#8080ff", view)
    return root


def mate3d(root: Path) -> tuple[Path, Path]:
    """Three methods and four prompts with ratings that follow the size of the disc; folder and csv."""
    rows = ["model,prompt,Alignment,Geometry,Texture,Overall"]
    for rank, method in enumerate(("sjc", "magic3d", "one2345++")):
        for number, prompt in enumerate(("A brown horse", "A glass bottle", "A red hat, worn", "A lamp")):
            place = root / method / prompt.replace(" ", "_")
            for view in range(6):
                draw_ball(place / f"rendered_view_{view}.png", 2 + 2 * rank + number % 2)
            score = 2.5 * rank + 0.5 * (number % 2) + 1
            rows.append(f'{method},"{prompt}",{score},{score},{score},{score}')
    ratings = root.parent / "all.csv"
    ratings.write_text("\n".join(rows) + "\n")
    return root, ratings


def draw_ball(path: Path, radius: int, size: int = 64) -> None:
    """A ball of that radius in the middle: the smaller, the less it covers."""
    path.parent.mkdir(parents=True, exist_ok=True)
    picture = Image.new("RGB", (size, size), "white")
    middle = size // 2
    box = (middle - radius, middle - radius, middle + radius, middle + radius)
    ImageDraw.Draw(picture).ellipse(box, fill=COLOURS[2])
    picture.save(path)


def threestudio(root: Path, prompt: str = "a red cube", seed: int = 3, views: int = 12) -> Path:
    """A trial with two tests: panels of colour, normal and opacity side by side."""
    trial = root / "dreamfusion-sd" / f"{prompt.replace(' ', '_')}@20260101-000000"
    (trial / "configs").mkdir(parents=True)
    text = YAML.format(name="dreamfusion-sd", seed=seed, prompt=prompt)
    (trial / "configs" / "parsed.yaml").write_text(text)
    for step in (900, 10000):
        for view in range(views):
            colour = COLOURS[0] if step == 10000 else COLOURS[1]
            place = draw(trial / "save" / f"it{step}-test" / f"{view}.png", colour, view)
            single = np.asarray(Image.open(place))
            solid = np.repeat(((single != 255).any(-1, keepdims=True) * 255).astype(np.uint8), 3, -1)
            Image.fromarray(np.concatenate([single, 255 - single // 2, solid], 1)).save(place)
    return trial
