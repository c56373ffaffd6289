"""Run a command of the workflow engine as the only one in this folder: `python locked.py LOCKFILE COMMAND…`

The engine's own lock outlives an engine that was killed; this one ends with its process, so whoever holds it may
remove the other.
"""

import fcntl
import os
import subprocess
import sys
from pathlib import Path

path, command = Path(sys.argv[1]), sys.argv[2:]
try:
    path.parent.mkdir(parents=True, exist_ok=True)
    lock = os.open(path, os.O_RDWR | os.O_CREAT)
    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
except BlockingIOError:
    holder = path.read_text().strip() or "unknown"
    sys.exit(f"Error: another pipeline runs in this folder (process {holder}). Wait for its end, or stop it.")
except OSError as error:
    sys.exit(f"Error: {path}: cannot be locked ({error.strerror}); the folder must be writable.")
os.truncate(lock, 0)
os.write(lock, str(os.getpid()).encode())
os.set_inheritable(lock, True)  # held until the command's end
if any(Path(".snakemake/locks").glob("*")):
    subprocess.run([*command, "--unlock", "--quiet", "all"], check=False)
try:
    os.execvp(command[0], command)
except OSError as error:
    sys.exit(f"Error: {command[0]}: cannot be run ({error.strerror}).")
