"""The surroundings of every job's function: logging, error reports, and stopping on request.

It imports nothing heavy, because `workflow/locked.py` needs its text before anything slow is imported.
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
ERASE = "\r\x1b[K"  # erases the current line of a terminal (the progress line)
# Signals within this time count as one: Ctrl-C reaches a job from the terminal and from the engine.
ONE_SIGNAL_SECONDS = 1.0
PARENT_SECONDS = 0.5  # between checks whether the parent still exists
CHILDREN_SECONDS = 0.1  # between checks for jobs that have to be stopped


@contextmanager
def job(log_file: str | Path, script: str | Path, *, cooperative: bool = False) -> Iterator[Callable[[], bool]]:
    """The context of a job of the workflow. It logs to the file, and warnings and errors also go to standard error. An
    `InputError` ends the process with only its message.

    Enter it before the imports that take seconds, so that the handler is ready for a signal during them. If the parent
    process, the engine, is killed, the job receives a request to stop, so that it does not run alongside the
    next run.

    Args:
        log_file: the log, which is overwritten.
        script: the folder of the job's script, two levels below the project. The packages must be those of that
            project.
        cooperative: whether the work calls the yielded function and stops by itself, so that it can continue later. A
            second signal ends it at once, as the first one does for any other work. Files are written atomically.

    Yields:
        A function that returns whether the process received a request to stop (SIGINT or SIGTERM).
    """
    stop = Stop(cooperative=cooperative)
    stop_without_parent()
    with logged(log_file, said=logging.WARNING):
        project, own = Path(script).resolve().parents[1], Path(__file__).resolve().parents[2]
        if own != project:
            raise InputError(f"this job would run the code in {own}, not that in {project}; {ANOTHERS_CODE}")
        yield stop.asked


class Stop:
    """Handles SIGINT and SIGTERM for this process. They either request it to stop or interrupt it.

    Attributes:
        cooperative: whether the current work calls `asked` and stops by itself. Otherwise a signal raises
            KeyboardInterrupt, as a second one does in any case.
    """

    def __init__(self, *, cooperative: bool) -> None:
        self.cooperative = cooperative
        self._at: float | None = None
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self._handle)

    def asked(self) -> bool:
        """Whether the process received a request to stop."""
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
    """Logs to a new file and, from level `said` on, to standard error. Whatever ends the work becomes a `SystemExit`.

    Raises:
        SystemExit: 1 after an error (an `InputError` or an error of the code), 130 after an interruption.
    """
    file, screen = logging.FileHandler(log_file, mode="w", encoding="utf-8"), logging.StreamHandler()
    screen.setLevel(said)
    style = "%(asctime)s %(message)s"
    logging.basicConfig(level=logging.WARNING, format=style, datefmt="%H:%M:%S", handlers=[file, screen], force=True)
    screen.setFormatter(logging.Formatter((ERASE if sys.stderr.isatty() else "") + style, "%H:%M:%S"))
    logging.getLogger("analysis").setLevel(logging.INFO)  # libraries log details (such as fonts) at this level too
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
    """Requests this process to stop once its parent has changed, because a process whose parent ended goes to init or
    a subreaper."""
    threading.Thread(target=_stop_without, args=[os.getppid()], daemon=True).start()


def _stop_without(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(PARENT_SECONDS)
    os.kill(os.getpid(), signal.SIGTERM)


def pass_on(number: int, *, cancel: bool = False) -> None:
    """Makes a signal to the workflow engine also stop its jobs. Otherwise the engine would wait for their end, which
    may be hours away. A terminal sends Ctrl-C to all processes, but `kill` reaches only one.

    Args:
        number: the number of the signal.
        cancel: whether SIGTERM acts on the engine as Ctrl-C does, which cancels a cluster's jobs.
    """
    before = signal.getsignal(number)
    if number == signal.SIGTERM and cancel:
        before = signal.default_int_handler

    def handle(number: int, frame: FrameType | None) -> None:
        threading.Thread(target=_stop_jobs, daemon=True).start()
        if callable(before):
            before(number, frame)

    if callable(before):  # otherwise it is ignored, as a shell makes background processes ignore Ctrl-C
        signal.signal(number, handle)


def _stop_jobs() -> None:
    import psutil  # type: ignore[import-untyped]  # here: a machine that only trains may lack it

    stopped: set[psutil.Process] = set()
    while True:  # until the engine ends, because a job may be starting just now
        for child in set(psutil.Process().children()) - stopped:
            with suppress(psutil.NoSuchProcess):
                if ".snakemake/scripts/" in " ".join(child.cmdline()):  # others cancel a cluster's jobs
                    child.terminate()
                    stopped.add(child)
        time.sleep(CHILDREN_SECONDS)


def remove_temporary_files(results: str | Path) -> None:
    """Removes temporary files of killed writers. Call it only while no other pipeline runs there."""
    for path in Path(results).rglob(".*.tmp"):
        path.unlink(missing_ok=True)
