"""Properties of a file system that can prevent a file from being read or locked."""

from __future__ import annotations

import errno
from contextlib import suppress
from pathlib import Path

NO_LOCKS = (errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS)  # the error of `flock` if there are no locks
HDF5_LOCKS = "HDF5_USE_FILE_LOCKING"  # an environment variable; it is "FALSE" here, because no file is written in place


def file_system(path: Path, mounts: Path = Path("/proc/mounts")) -> str:
    """The type of the file system that holds `path` ("nfs4"); "unknown" if the system does not say."""
    place, found = path.absolute(), "unknown"
    with suppress(OSError):
        longest = -1
        for line in mounts.read_text(encoding="utf-8", errors="replace").splitlines():
            _, point, kind, *_ = line.split()
            point = point.replace("\\040", " ")
            if place.is_relative_to(point) and len(point) >= longest:  # the later one is mounted over the earlier
                longest, found = len(point), kind
    return found
