# What happens around the jobs: before the first, when a signal comes, and after a failure.
import signal
import threading
import time
from contextlib import suppress

import psutil

from analysis.execution.jobs import remove_temporary_files
from analysis.execution.stopped import STOPPED

# A job's process is then the engine's own child, whatever the shell does: signals reach it, and it sees the engine's end.
# Until it answers Ctrl-C by itself (analysis/execution/jobs.py) it ignores it, rather than end in a traceback; the engine stops it.
shell.prefix("set -euo pipefail; trap '' INT; exec ")


onstart:
    remove_temporary_files(RESULTS)
    mend_times()
    if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)  # no more that of locked.py
    pass_on(signal.SIGINT)
    pass_on(signal.SIGTERM)


onerror:
    print(f"\n{STOPPED}", file=sys.stderr)


def mend_times():
    """Names say what is right, not times. But the engine deletes what it made from a file of the future, each time
    anew: a clock that was ahead when it was written must not stop everything."""
    for path in (*Path(RESULTS).rglob("*"), *Path(DATASETS).rglob("*"), Path("docs/deviations.md")):
        with suppress(OSError):  # another's file; the engine then tells
            if path.stat().st_mtime > time.time():
                os.utime(path)


def pass_on(number):
    """Have a signal also stop the jobs. The engine itself would wait for their end, which may be hours away; a terminal
    sends Ctrl-C to all processes, `kill` to one."""
    before = signal.getsignal(number)
    if number == signal.SIGTERM and "stages" in config:
        # As Ctrl-C, which cancels a cluster's jobs: the engine would wait for them.
        before = signal.default_int_handler

    def stop_jobs():
        told = set()
        while True:  # until the engine ends: one may be starting just now
            for child in set(psutil.Process().children()) - told:
                with suppress(psutil.NoSuchProcess):
                    if ".snakemake/scripts/" in " ".join(child.cmdline()):  # else it cancels a cluster's job
                        child.terminate()
                        told.add(child)
            time.sleep(0.1)

    def handle(number, frame):
        threading.Thread(target=stop_jobs, daemon=True).start()
        before(number, frame)

    if callable(before):  # else it is ignored, as Ctrl-C by what a shell runs in the background
        signal.signal(number, handle)
