"""What every job does around its one function: it logs, reports errors and stops when asked.

Light: `workflow/locked.py` needs the text before anything that takes time to import.
"""

from __future__ import annotations

import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType

from sharpflat.errors import InputError

STOPPED = "Stopped. What is finished stays; the same command continues from there."
ANOTHERS_CODE = "unset PYTHONPATH, or uninstall what puts that code first"
ERASE = "\r\x1b[K"  # of a terminal, the line that stands there (that of the progress)
# Signals within this time count as one: Ctrl-C reaches a job from the terminal and from the engine.
ONE_SIGNAL_SECONDS = 1.0
PARENT_SECONDS = 0.5  # between looks at whether the parent is still there
CHILDREN_SECONDS = 0.1  # between looks for jobs that have to be stopped


@contextmanager
def job(log_file: str | Path, script: str | Path, *, cooperative: bool = False) -> Iterator[Callable[[], bool]]:
    """A job of the workflow: log to the file, and warnings and errors to standard error too; an `InputError` ends the
    process with its message alone.

    Enter it before the imports that take seconds, so that a signal meanwhile finds its handler. When the parent
    process, the engine, is gone (killed), the job is asked to stop: nothing goes on behind the back of the next run.

    Args:
        log_file: written anew.
        script: the folder of the job's script, two below the project's: the packages have to be that project's.
        cooperative: whether the work calls the yielded function and stops by itself, so that it can continue later. A
            second signal ends it at once, as the first ends any other work; files are written atomically.

    Yields:
        A function that says whether the process was asked to stop (SIGINT, SIGTERM).
    """
    stop = Stop(cooperative=cooperative)
    stop_without_parent()
    with logged(log_file, said=logging.WARNING):
        project, own = Path(script).resolve().parents[1], Path(__file__).resolve().parents[2]
        if own != project:
            raise InputError(f"this job would run the code in {own}, not that in {project}; {ANOTHERS_CODE}")
        yield stop.asked


class Stop:
    """Once made, it decides what SIGINT and SIGTERM do to this process: they are a request, or interrupt it.

    Attributes:
        cooperative: whether what runs now calls `asked` and stops by itself; otherwise a signal raises
            KeyboardInterrupt, as a second one does in any case.
    """

    def __init__(self, *, cooperative: bool) -> None:
        self.cooperative = cooperative
        self._at: float | None = None
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self._handle)

    def asked(self) -> bool:
        """Whether the process was asked to stop."""
        return self._at is not None

    def _handle(self, number: int, frame: FrameType | None) -> None:
        now = time.monotonic()
        if self._at is not None and now - self._at < ONE_SIGNAL_SECONDS:
            return
        before, self._at = self._at, now
        if before is not None or not self.cooperative:
            raise KeyboardInterrupt


@contextmanager
def logged(log_file: str | Path, said: int = logging.INFO) -> Iterator[None]:
    """Log to the file, anew, and from level `said` on to standard error; what ends the work ends in `SystemExit`.

    Raises:
        SystemExit: 1 after an error, which is an `InputError` or one of the code, 130 after an interruption.
    """
    file, screen = logging.FileHandler(log_file, mode="w", encoding="utf-8"), logging.StreamHandler()
    screen.setLevel(said)
    style = "%(asctime)s %(message)s"
    logging.basicConfig(level=logging.WARNING, format=style, datefmt="%H:%M:%S", handlers=[file, screen], force=True)
    screen.setFormatter(logging.Formatter((ERASE if sys.stderr.isatty() else "") + style, "%H:%M:%S"))
    logging.getLogger("analysis").setLevel(logging.INFO)  # libraries tell their details (fonts!) at this level too
    try:
        yield
    except InputError as error:
        logging.getLogger(__name__).error("Error: %s", error)
        sys.exit(1)
    except Exception:
        logging.getLogger(__name__).exception("Error of the code, not of what it was given")
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
        time.sleep(PARENT_SECONDS)
    os.kill(os.getpid(), signal.SIGTERM)


def pass_on(number: int, *, cancel: bool = False) -> None:
    """Have a signal to the workflow engine also stop its jobs. The engine alone would wait for their end, which may be
    hours away; a terminal sends Ctrl-C to all processes, `kill` to one.

    Args:
        number: of the signal.
        cancel: whether SIGTERM does to the engine what Ctrl-C does, which cancels a cluster's jobs.
    """
    before = signal.getsignal(number)
    if number == signal.SIGTERM and cancel:
        before = signal.default_int_handler

    def handle(number: int, frame: FrameType | None) -> None:
        threading.Thread(target=_stop_jobs, daemon=True).start()
        if callable(before):
            before(number, frame)

    if callable(before):  # otherwise it is ignored, as a shell has Ctrl-C ignored by what runs in the background
        signal.signal(number, handle)


def _stop_jobs() -> None:
    import psutil  # type: ignore[import-untyped]  # here: a machine that only trains may lack it

    stopped: set[psutil.Process] = set()
    while True:  # until the engine ends: a job may be starting just now
        for child in set(psutil.Process().children()) - stopped:
            with suppress(psutil.NoSuchProcess):
                if ".snakemake/scripts/" in " ".join(child.cmdline()):  # others cancel a cluster's jobs
                    child.terminate()
                    stopped.add(child)
        time.sleep(CHILDREN_SECONDS)


def remove_temporary_files(results: str | Path) -> None:
    """Remove what killed writers left; to be called while no other pipeline runs there."""
    for path in Path(results).rglob(".*.tmp"):
        path.unlink(missing_ok=True)
