# What happens around the jobs: before the first, when a signal comes, and after a failure.
import signal
import time
from contextlib import suppress

from analysis.execution.signals import STOPPED, pass_on, remove_temporary_files

# A job's process is then the engine's own child, whatever the shell does: signals reach it, and it sees the engine's end.
# Until it answers Ctrl-C by itself (analysis/execution/signals.py) it ignores it, rather than end in a traceback; the
# engine stops it.
shell.prefix("set -euo pipefail; trap '' INT; exec ")


onstart:
    remove_temporary_files(RESULTS)
    mend_times()
    leave_what_was_found()
    if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)  # no more that of locked.py
    pass_on(signal.SIGINT)
    pass_on(signal.SIGTERM, cancel="stages" in config)


onerror:
    print(f"\n{STOPPED}", file=sys.stderr)


def mend_times():
    """Names say what is right, not times. But the engine deletes what it made from a file of the future, each time
    anew: a clock that was ahead when it was written must not stop everything."""
    for path in (*Path(RESULTS).rglob("*"), *Path(DATASETS).rglob("*")):
        with suppress(OSError):  # another's file; the engine then says so
            if path.stat().st_mtime > time.time():
                os.utime(path)
