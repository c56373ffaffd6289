"""The output of the engine in `make`: one live line in a terminal, a plain line for each job elsewhere, and all errors.

All messages of the engine are in its own log, below `.snakemake/log`.
"""

import os
import sys
import threading
import time
from contextlib import suppress
from logging import INFO, LogRecord

from snakemake_interface_logger_plugins.base import LogHandlerBase
from snakemake_interface_logger_plugins.common import LogEvent

from analysis.execution import progress
from analysis.execution.signals import ERASE

LIVE_SECONDS, PLAIN_SECONDS = 1.0, 60.0  # between two lines at most
SAID = ("Nothing to be done", "Complete log(s):")  # messages that are shown although they are no warnings


class LogHandler(LogHandlerBase):
    """Receives the engine's records in one thread, while another thread keeps the line up to date."""

    writes_to_stream, writes_to_file, has_filter, has_formatter, needs_rulegraph = True, False, False, False, False

    def __post_init__(self) -> None:
        self.stream = sys.stdout if self.common_settings.dryrun else sys.stderr
        self.live = self.stream.isatty() and not self.common_settings.dryrun
        self.names: dict[int, str] = {}  # of jobs, by the engine's numbers
        self.planned: set[str] | None = None
        self.failed = False
        self.written = time.monotonic()
        self.ended = threading.Event()
        threading.Thread(target=self._keep_up_to_date, daemon=True).start()

    def emit(self, record: LogRecord) -> None:
        event = getattr(record, "event", None)
        self.failed |= event == LogEvent.JOB_ERROR
        if event == LogEvent.RUN_INFO:
            self.planned = set(record.stats)
        if progress.LOOKS or self.common_settings.dryrun or self.common_settings.verbose or record.levelno > INFO:
            self._say(self.format(record))
        elif event is None and str(record.msg).startswith(SAID[: 1 + self.failed]):
            self._say(str(record.msg))
        if progress.RUN is not None:
            self._follow(progress.RUN, record, event)

    def _follow(self, run: progress.Run, record: LogRecord, event: LogEvent | None) -> None:
        if self.planned is not None:
            run.only([task for name, task in run.tasks.items() if name in self.planned])
            self.planned = None
        if event == LogEvent.JOB_INFO and (task := run.tasks.get(record.rule_name)):
            self.names[record.jobid] = task.name
            run.begin(task.name)
            if self.live:
                self._draw()
            else:
                self._say(f"{run.far()}: {task.message}")
        elif event in (LogEvent.JOB_FINISHED, LogEvent.JOB_ERROR):
            number = record.job_id if event == LogEvent.JOB_FINISHED else record.jobid
            if name := self.names.pop(number, None):
                run.end(name, done=event == LogEvent.JOB_FINISHED)

    def _say(self, text: str) -> None:
        """A line that stays."""
        self._write((ERASE if self.live else "") + text + "\n")

    def _draw(self) -> None:
        """The line that is drawn over, or stays where there is no terminal."""
        if self.live:
            width = (os.get_terminal_size(self.stream.fileno()).columns or 80) - 1
            self._write(ERASE + (progress.RUN.line() if progress.RUN else "Planning")[:width])
        elif progress.RUN:
            self._say(progress.RUN.line())

    def _write(self, text: str) -> None:
        self.written = time.monotonic()
        with suppress(OSError):  # nobody looks any more
            self.stream.write(text)
            self.stream.flush()

    def _keep_up_to_date(self) -> None:
        while not self.ended.wait(LIVE_SECONDS):
            with self.lock:
                if self.live or time.monotonic() - self.written >= PLAIN_SECONDS:
                    self._draw()

    def close(self) -> None:
        if not self.ended.is_set():
            self.ended.set()
            with self.lock:
                if self.live:
                    self._write(ERASE)
        super().close()
