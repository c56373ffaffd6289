"""What every job of the workflow does around its one function: log, tell errors, stop when asked."""

from __future__ import annotations

import logging
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

from analysis.errors import InputError


@contextmanager
def job(log_file: str | Path) -> Iterator[Callable[[], bool]]:
    """Log to the file and to standard error; an `InputError` ends the process with its message alone.

    Yields:
        A function that says whether the process was asked to stop (SIGINT, SIGTERM), for work that can
        continue later; it has a few seconds to put that into its files. Work that does not ask is not disturbed
        in the middle of a write: it is short.
    """
    asked = False

    def ask(number: int, frame: FrameType | None) -> None:
        nonlocal asked
        asked = True

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, ask)
    logging.basicConfig(
        level=logging.INFO,
        format="%(asctime)s %(message)s",
        datefmt="%H:%M:%S",
        handlers=[logging.FileHandler(log_file, mode="w", encoding="utf-8"), logging.StreamHandler()],
        force=True,
    )
    try:
        yield lambda: asked
    except InputError as error:
        logging.getLogger(__name__).error("Error: %s", error)
        sys.exit(1)
