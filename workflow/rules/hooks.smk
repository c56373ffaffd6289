# What happens around the jobs: before the first, when a signal comes, and after a failure.
import signal
import time
from contextlib import suppress

from analysis.execution.records import remove_old_checkpoints
from analysis.execution.signals import STOPPED, pass_on, remove_temporary_files
from analysis.execution.tasks import write_at_start

# With `exec`, a job's process is the engine's own child. So signals reach it, and it notices the engine's end. Until it
# handles Ctrl-C itself (analysis/execution/signals.py), it ignores it rather than ending in a traceback, and the engine
# stops it.
shell.prefix("set -euo pipefail; trap '' INT; exec ")


onstart:
    remove_temporary_files(RESULTS)
    remove_old_checkpoints(PLAN, Path(RESULTS))
    mend_times()
    write_at_start(Path(RESULTS), MISSING, ASKED, AGAIN)  # for a cluster's jobs, and for make status
    progress.RUN = progress.Run(
        PLAN, [task for those in TASKS.values() for task in those], Path(RESULTS), slots()
    )
    if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)  # instead of the handler of locked.py
    pass_on(signal.SIGINT)
    pass_on(signal.SIGTERM, cancel="stages" in config)


onerror:
    print(f"\n{STOPPED}", file=sys.stderr)


def slots():
    """The largest number of jobs that run at once."""
    limits = (workflow.global_resources.get(name) for name in ("_nodes", "_cores", "gpu"))
    return min(limit.value for limit in limits if limit is not None and limit.value)


def mend_times():
    """Resets modification times that lie in the future.

    Names and not times show what is right. But the engine deletes, in every run, results that it made from a file with
    a future time. A clock that was ahead when a file was written must not stop everything.
    """
    for path in (*Path(RESULTS).rglob("*"), *Path(DATASETS).rglob("*")):
        with suppress(OSError):  # someone else's file; the engine then reports it
            if path.stat().st_mtime > time.time():
                os.utime(path)
