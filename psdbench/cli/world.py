"""`psdbench world`: look into the embedded world, train its models, measure them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(
    help="The embedded shapes world: sample, train, evaluate.", no_args_is_help=True, rich_markup_mode=None
)

Out = Annotated[Path, typer.Option(help="PNG file to write.", envvar="PSDBENCH_WORLD_OUT")]
Seed = Annotated[
    int, typer.Option(help="Seed; everything drawn or trained follows from it.", envvar="PSDBENCH_SEED")
]


@app.command()
def sample(
    what: Annotated[
        str, typer.Argument(help="data (training pictures) or prior (samples of the diffusion prior)")
    ] = "data",
    out: Out = Path("world-sample.png"),
    prompt: Annotated[
        list[str] | None,
        typer.Option(
            help="Caption to sample from the prior; may be repeated.", envvar="PSDBENCH_WORLD_PROMPT"
        ),
    ] = None,
    count: Annotated[
        int, typer.Option(help="Number of pictures.", envvar="PSDBENCH_WORLD_COUNT", min=1, max=400)
    ] = 64,
    guidance_scale: Annotated[
        float, typer.Option(help="Classifier-free guidance scale.", envvar="PSDBENCH_WORLD_GUIDANCE_SCALE")
    ] = 5.0,
    seed: Seed = 0,
) -> None:
    """Draw pictures into one PNG sheet."""
    from psdbench.errors import UsageError
    from psdbench.world.sheets import data_sheet, prior_sheet

    if what not in ("data", "prior"):
        raise UsageError(f"cannot sample '{what}'", remedy="psdbench world sample data | prior")
    captions = (
        data_sheet(out, count, seed)
        if what == "data"
        else prior_sheet(out, prompt or [], count, guidance_scale, seed)
    )
    for caption in captions:
        typer.echo(caption)
    typer.echo(f"wrote {out}", err=True)


@app.command()
def train(
    out: Annotated[
        Path, typer.Option(help="Folder of the trained weights.", envvar="PSDBENCH_WORLD_WEIGHTS")
    ] = Path("world-weights"),
    work: Annotated[
        Path,
        typer.Option(
            help="Folder of checkpoints and training pictures (2 GB).", envvar="PSDBENCH_WORLD_WORK"
        ),
    ] = Path("world-work"),
    only: Annotated[
        str,
        typer.Option(
            help="Run one stage alone: pool, autoencoder, text_encoder, prior, clip, judge, pairs, aesthetic, "
            "hps, image_reward."
        ),
    ] = "",
    device: Annotated[str, typer.Option(help="cpu or cuda.", envvar="PSDBENCH_DEVICE")] = "cpu",
    seed: Seed = 1,
) -> None:
    """Train all embedded models from a seed; the same command continues an interrupted training."""
    from psdbench.errors import UsageError
    from psdbench.world.training.pipeline import Pipeline

    pipeline = Pipeline(out, work, seed, device)
    if only and only not in pipeline.stages():
        raise UsageError(f"no training stage '{only}'", remedy=f"stages: {', '.join(pipeline.stages())}")
    pipeline.run(only)


@app.command()
def evaluate(
    work: Annotated[
        Path | None,
        typer.Option(
            help="Training work folder: adds the scorers' held-out pair accuracy.",
            envvar="PSDBENCH_WORLD_WORK",
        ),
    ] = None,
    count: Annotated[
        int, typer.Option(help="Pictures per figure.", envvar="PSDBENCH_WORLD_COUNT", min=8)
    ] = 200,
    as_json: Annotated[
        bool, typer.Option("--json", help="One JSON document on stdout.", envvar="PSDBENCH_JSON")
    ] = False,
    seed: Seed = 0,
) -> None:
    """Measure the embedded models on held-out combinations."""
    import json

    from psdbench.world.evaluate import evaluate as measure
    from psdbench.world.evaluate import scorer_figures

    figures = measure(count=count, seed=seed)
    if work is not None:
        figures |= scorer_figures(work)
    if as_json:
        typer.echo(json.dumps(figures, indent=2))
        return
    for part, values in figures.items():
        for name, value in values.items():
            typer.echo(f"{part:20s} {name:32s} {value:.3f}")
