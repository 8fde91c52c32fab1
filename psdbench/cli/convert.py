"""`psdbench convert`: public checkpoints to folders that `--prior` takes."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from psdbench.cli.output import say

app = typer.Typer(
    help="Convert public checkpoints to folders for --prior.", no_args_is_help=True, rich_markup_mode=None
)


@app.callback()
def convert() -> None:
    """Convert public checkpoints to folders for --prior."""  # a callback keeps the name of the only command


@app.command()
def mvdream(
    checkpoint: Annotated[
        Path,
        typer.Argument(
            metavar="CKPT", help="sd-v2.1-base-4view.pt, or the folder of MVDream's port to diffusers."
        ),
    ],
    out: Annotated[Path, typer.Argument(help="Folder to write.")],
    tokenizer: Annotated[
        Path | None,
        typer.Option(
            help="Folder of the vocabulary, which the .pt lacks: tokenizer/ of any Stable Diffusion 2.",
            envvar="PSDBENCH_CONVERT_TOKENIZER",
            show_default=False,
        ),
    ] = None,
) -> None:
    """Write MVDream as a folder in Stable Diffusion's layout; nothing in the checkpoint is executed.

    Example:  psdbench convert mvdream sd-v2.1-base-4view.pt models/mvdream --tokenizer models/sd21/tokenizer
    """
    from psdbench.launch.notes import quiet_libraries

    quiet_libraries()
    from psdbench.priors.convert import convert_mvdream

    convert_mvdream(checkpoint, out, tokenizer)
    say(f"next: psdbench run --prior {out} --methods sds --prompts FILE")
    print(out)
