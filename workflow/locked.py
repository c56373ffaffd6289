"""Runs the workflow engine as the only one in this folder: `python locked.py LOCKFILE ENGINE ARGUMENTS…`

The engine's own lock remains if the engine is killed. This lock ends with its process, so its holder may remove the
engine's lock. ENGINE is a Python module. It runs in this process, and until it has jobs to stop, a signal simply ends
it.
"""

import os
import signal
import sys

sys.path[0] = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))  # the packages of this folder

from analysis.execution.signals import STOPPED  # noqa: E402


def stop(number, frame):
    os.write(2, f"\n{STOPPED}\n".encode())
    os._exit(128 + number)


for number in (signal.SIGINT, signal.SIGTERM):
    if signal.getsignal(number) is not signal.SIG_IGN:  # background processes of a shell ignore Ctrl-C
        signal.signal(number, stop)

import runpy  # noqa: E402
import subprocess  # noqa: E402
from pathlib import Path  # noqa: E402

from analysis.execution.locks import hold  # noqa: E402
from sharpflat.errors import InputError  # noqa: E402

path, command = Path(sys.argv[1]), sys.argv[2:]
try:
    hold(path)
except InputError as error:
    sys.exit(f"Error: {error}")
if any(Path(".snakemake/locks").glob("*")):
    subprocess.run([sys.executable, "-m", *command, "--unlock", "--quiet", "all"], check=False)
sys.path.append(os.path.join(sys.path[0], "workflow", "loggers"))
sys.argv[:] = [*command, "--logger", "live"]
runpy.run_module(command[0], run_name="__main__", alter_sys=True)
