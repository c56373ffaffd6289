"""Run a command of the workflow engine as the only one in this folder: `python locked.py LOCKFILE COMMAND…`

The engine's own lock outlives an engine that was killed; this one ends with its process, so whoever holds it may
remove the other.
"""

import os
import subprocess
import sys
from pathlib import Path

from analysis.errors import InputError
from analysis.locks import only_pipeline

path, command = Path(sys.argv[1]), sys.argv[2:]
try:
    os.set_inheritable(only_pipeline(path), True)  # held until the command's end
except InputError as error:
    sys.exit(f"Error: {error}")
if any(Path(".snakemake/locks").glob("*")):
    subprocess.run([*command, "--unlock", "--quiet", "all"], check=False)
try:
    os.execvp(command[0], command)
except OSError as error:
    sys.exit(f"Error: {command[0]}: cannot be run ({error.strerror}).")
