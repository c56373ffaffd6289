# The engine and its jobs run the code of this folder, whatever else is installed or in PYTHONPATH.
import os
import shlex
import sys
from importlib.util import find_spec

PROJECT = os.path.realpath(workflow.basedir)
if os.pathsep in PROJECT:  # PYTHONPATH cannot name such a folder
    sys.exit(
        f"Error: {PROJECT}: the path of this folder has a '{os.pathsep}'; rename the folder, or move it."
    )

sys.path.insert(0, PROJECT)
os.environ["PYTHONPATH"] = os.pathsep.join(
    dict.fromkeys((PROJECT, *filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))))
)
for package in ("analysis", "sharpflat"):
    found, expected = find_spec(package), os.path.join(PROJECT, package, "__init__.py")
    if found is None or found.origin is None or os.path.realpath(found.origin) != expected:
        there = "nowhere" if found is None else found.origin
        sys.exit(
            f"Error: {package}: would be imported from {there}, not from {expected}; unset PYTHONPATH, or uninstall "
            "what puts that code first."
        )

# Files are written completely under other names, and never in place. So HDF5's locks protect nothing, and some file
# systems have no locks.
os.environ.setdefault("HDF5_USE_FILE_LOCKING", "FALSE")

# The engine writes the interpreter's path into shell commands without quoting it.
if os.path.exists(sys.executable):
    sys.executable = shlex.quote(sys.executable)
