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
def job(log_file: str | Path, *, asks: bool = False) -> Iterator[Callable[[], bool]]:
    """Log to the file and to standard error; an `InputError` ends the process with its message alone.

    Enter it before the imports that take seconds, so that a signal meanwhile finds its handler.

    Args:
        log_file: written anew.
        asks: whether the work asks the yielded function and stops by itself, so that it can continue later. A second
            signal ends it at once, as the first does any other work; files are written atomically.

    Yields:
        A function that says whether the process was asked to stop (SIGINT, SIGTERM).
    """
    asked = False

    def ask(number: int, frame: FrameType | None) -> None:
        nonlocal asked
        if asked or not asks:
            raise KeyboardInterrupt
        asked = True

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, ask)
    logging.basicConfig(
        level=logging.WARNING,
        format="%(asctime)s %(message)s",
        datefmt="%H:%M:%S",
        handlers=[logging.FileHandler(log_file, mode="w", encoding="utf-8"), logging.StreamHandler()],
        force=True,
    )
    logging.getLogger("analysis").setLevel(logging.INFO)  # libraries tell their details (fonts!) at this level too
    try:
        yield lambda: asked
    except InputError as error:
        logging.getLogger(__name__).error("Error: %s", error)
        sys.exit(1)
    except KeyboardInterrupt:
        logging.getLogger(__name__).error("interrupted; the same command begins this job again")
        sys.exit(130)
