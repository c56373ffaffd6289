"""What every job of the workflow does around its one function: log, tell errors, stop when asked."""

from __future__ import annotations

import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

from analysis.errors import InputError

ONE_SIGNAL = 1.0  # seconds within which signals are one: Ctrl-C reaches a job from the terminal and from the engine
LOOK_AT_PARENT = 0.5  # seconds


@contextmanager
def job(log_file: str | Path, *, asks: bool = False) -> Iterator[Callable[[], bool]]:
    """Log to the file and to standard error; an `InputError` ends the process with its message alone.

    Enter it before the imports that take seconds, so that a signal meanwhile finds its handler. When the parent
    process, the engine, is gone (killed), the job is asked to stop: nothing goes on behind the back of the next run.

    Args:
        log_file: written anew.
        asks: whether the work asks the yielded function and stops by itself, so that it can continue later. A second
            signal ends it at once, as the first does any other work; files are written atomically.

    Yields:
        A function that says whether the process was asked to stop (SIGINT, SIGTERM).
    """
    asked: float | None = None

    def ask(number: int, frame: FrameType | None) -> None:
        nonlocal asked
        now = time.monotonic()
        if asked is not None and now - asked < ONE_SIGNAL:
            return
        before, asked = asked, now
        if before is not None or not asks:
            raise KeyboardInterrupt

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
    threading.Thread(target=_stop_without, args=[os.getppid()], daemon=True).start()
    try:
        yield lambda: asked is not None
    except InputError as error:
        logging.getLogger(__name__).error("Error: %s", error)
        sys.exit(1)
    except KeyboardInterrupt:
        logging.getLogger(__name__).error("interrupted; the same command begins this job again")
        sys.exit(130)


def _stop_without(parent: int) -> None:
    """Ask this process to stop once its parent is another: the first one's end leaves it to init, or to a subreaper."""
    while os.getppid() == parent:
        time.sleep(LOOK_AT_PARENT)
    os.kill(os.getpid(), signal.SIGTERM)
