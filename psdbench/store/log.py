"""A job's log: lines with the time, for people only, so they need no atomic write."""

from __future__ import annotations

import time
from pathlib import Path

from psdbench.store import atomic

LOG = "log.txt"


def log(folder: Path, text: str) -> None:
    """Add a line to the log of a job folder."""
    atomic.append_line(folder / LOG, f"{time.strftime('%Y-%m-%dT%H:%M:%S%z')} {text}")
