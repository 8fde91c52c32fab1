"""Warnings that the library logs become notes on the display."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager


class NoteHandler(logging.Handler):
    """Hands each message to a function."""

    def __init__(self, note: Callable[[str], None]) -> None:
        super().__init__(logging.WARNING)
        self.note = note

    def emit(self, record: logging.LogRecord) -> None:
        self.note(record.getMessage())


@contextmanager
def forwarded_warnings(note: Callable[[str], None]) -> Iterator[None]:
    """Within the block, send the warnings of all psdbench modules to `note`, and nowhere else."""
    logger = logging.getLogger("psdbench")
    before = logger.handlers, logger.propagate
    logger.handlers, logger.propagate = [NoteHandler(note)], False
    try:
        yield
    finally:
        logger.handlers, logger.propagate = before


def quiet_libraries() -> None:
    """No progress bars and advice of the model libraries among our own lines, and no network: call it early.

    They read these variables when they are imported; what the user has set stays.
    """
    wishes = {"HF_HUB_OFFLINE": "1", "HF_HUB_DISABLE_PROGRESS_BARS": "1", "TOKENIZERS_PARALLELISM": "false"}
    for name, value in (
        wishes | dict.fromkeys(("TRANSFORMERS_VERBOSITY", "DIFFUSERS_VERBOSITY"), "error")
    ).items():
        os.environ.setdefault(name, value)
