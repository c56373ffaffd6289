"""What every job does around its one function: log, tell errors, stop when asked."""

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

from sharpflat.errors import InputError

ONE_SIGNAL = 1.0  # seconds within which signals are one: Ctrl-C reaches a job from the terminal and from the engine
LOOK_AT_PARENT = 0.5  # seconds


@contextmanager
def job(log_file: str | Path, *, asks: bool = False) -> Iterator[Callable[[], bool]]:
    """A job of the workflow: log to the file and to standard error; an `InputError` ends the process with its message
    alone.

    Enter it before the imports that take seconds, so that a signal meanwhile finds its handler. When the parent
    process, the engine, is gone (killed), the job is asked to stop: nothing goes on behind the back of the next run.

    Args:
        log_file: written anew.
        asks: whether the work asks the yielded function and stops by itself, so that it can continue later. A second
            signal ends it at once, as the first does any other work; files are written atomically.

    Yields:
        A function that says whether the process was asked to stop (SIGINT, SIGTERM).
    """
    stop = Stop(asks=asks)
    stop_without_parent()
    with logged(log_file):
        yield stop.asked


class Stop:
    """From its making on, what SIGINT and SIGTERM are to this process: a question or an interruption.

    Attributes:
        asks: whether what runs now asks `asked` and stops by itself; else a signal raises KeyboardInterrupt, as a
            second one does in any case.
    """

    def __init__(self, *, asks: bool) -> None:
        self.asks = asks
        self._at: float | None = None
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self._handle)

    def asked(self) -> bool:
        """Whether the process was asked to stop."""
        return self._at is not None

    def _handle(self, number: int, frame: FrameType | None) -> None:
        now = time.monotonic()
        if self._at is not None and now - self._at < ONE_SIGNAL:
            return
        before, self._at = self._at, now
        if before is not None or not self.asks:
            raise KeyboardInterrupt


@contextmanager
def logged(log_file: str | Path) -> Iterator[None]:
    """Log to the file, anew, and to standard error; what ends the work for a person to read ends in `SystemExit`.

    Raises:
        SystemExit: 1 after an `InputError`, 130 after an interruption.
    """
    logging.basicConfig(
        level=logging.WARNING,
        format="%(asctime)s %(message)s",
        datefmt="%H:%M:%S",
        handlers=[logging.FileHandler(log_file, mode="w", encoding="utf-8"), logging.StreamHandler()],
        force=True,
    )
    logging.getLogger("analysis").setLevel(logging.INFO)  # libraries tell their details (fonts!) at this level too
    try:
        yield
    except InputError as error:
        logging.getLogger(__name__).error("Error: %s", error)
        sys.exit(1)
    except KeyboardInterrupt:
        logging.getLogger(__name__).error("interrupted; the same command begins this job again")
        sys.exit(130)


def stop_without_parent() -> None:
    """Have this process asked to stop once its parent is another: that one's end leaves it to init, or to a
    subreaper."""
    threading.Thread(target=_stop_without, args=[os.getppid()], daemon=True).start()


def _stop_without(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(LOOK_AT_PARENT)
    os.kill(os.getpid(), signal.SIGTERM)


def remove_temporary_files(results: str | Path) -> None:
    """What writers that were killed left; to be called while no other pipeline runs there."""
    for path in Path(results).rglob(".*.tmp"):
        path.unlink(missing_ok=True)
