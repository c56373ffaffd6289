# What happens around the jobs: before the first, when a signal comes, and after a failure.
import signal
import time
from contextlib import suppress

from analysis.execution.signals import STOPPED, pass_on, remove_temporary_files
from analysis.execution.tasks import write_at_start

# A job's process is then the engine's own child, whatever the shell does: signals reach it, and it sees the engine's end.
# Until it answers Ctrl-C by itself (analysis/execution/signals.py) it ignores it, rather than end in a traceback; the
# engine stops it.
shell.prefix("set -euo pipefail; trap '' INT; exec ")


onstart:
    remove_temporary_files(RESULTS)
    mend_times()
    write_at_start(Path(RESULTS), MISSING, ASKED, AGAIN)  # for a cluster's jobs, and for make status
    progress.RUN = progress.Run(
        PLAN, [task for those in TASKS.values() for task in those], Path(RESULTS), slots()
    )
    if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)  # no more that of locked.py
    pass_on(signal.SIGINT)
    pass_on(signal.SIGTERM, cancel="stages" in config)


onerror:
    print(f"\n{STOPPED}", file=sys.stderr)


def slots():
    """How many jobs run at once, at most."""
    limits = (workflow.global_resources.get(name) for name in ("_nodes", "_cores", "gpu"))
    return min(limit.value for limit in limits if limit is not None and limit.value)


def mend_times():
    """Names say what is right, not times. But the engine deletes what it made from a file of the future, each time
    anew: a clock that was ahead when it was written must not stop everything."""
    for path in (*Path(RESULTS).rglob("*"), *Path(DATASETS).rglob("*")):
        with suppress(OSError):  # another's file; the engine then says so
            if path.stat().st_mtime > time.time():
                os.utime(path)
