"""A Slurm of one node, this machine, with its files in a folder of its own: started by a test and stopped after it."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil

NEEDED = ("munged", "slurmctld", "slurmd", "sbatch", "srun", "squeue", "scancel", "scontrol", "sinfo")
PATIENCE = 60.0  # seconds within which daemons start and stop; a second or two on a free machine
CONFIGURATION = """
ClusterName=test
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={ports[0]}
SlurmdPort={ports[1]}
SlurmUser={user}
SlurmdUser={user}
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
ProctrackType=proctrack/pgid
TaskPlugin=task/none
MpiDefault=none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU_Memory
JobAcctGatherType=jobacct_gather/linux
JobAcctGatherFrequency=task=1
JobAcctGatherParams=OverMemoryKill
GresTypes=gpu
KillWait=10
NodeName={host} NodeAddr=127.0.0.1 CPUs={cpus} RealMemory={memory} Gres=gpu:2
PartitionName=all Nodes={host} Default=YES MaxTime=INFINITE State=UP
"""


class CannotStart(Exception):
    """Slurm is not here, or does not start."""


class Slurm:
    def __init__(self, folder: Path) -> None:
        self.folder = folder
        # The plugin's jobs forget SLURM_CONF before they call srun.
        srun = folder / "bin" / "srun"
        srun.parent.mkdir()
        srun.write_text(f"#!/bin/sh\nSLURM_CONF='{folder}/slurm.conf' exec '{shutil.which('srun')}' \"$@\"\n")
        srun.chmod(0o755)
        path = os.pathsep.join([str(srun.parent), os.environ["PATH"]])
        self.environment = {"SLURM_CONF": f"{folder}/slurm.conf", "PATH": path}

    def ask(self, *command: str) -> str:
        """What a command of Slurm's prints."""
        done = subprocess.run(
            command, env=os.environ | self.environment, text=True, capture_output=True, timeout=PATIENCE, check=True
        )
        return done.stdout.strip()

    def jobs(self) -> list[str]:
        """Ids of those that wait or run, or are being stopped."""
        return self.ask("squeue", "--noheader", "--format=%i").split()

    def details(self, job: str) -> dict[str, str]:
        words = self.ask("scontrol", "--oneliner", "show", "job", job).split()
        return dict(word.split("=", 1) for word in words if "=" in word)


@contextmanager
def slurm() -> Iterator[Slurm]:
    """Raises:
    CannotStart: with the reason.
    """
    if missing := [name for name in NEEDED if shutil.which(name) is None]:
        raise CannotStart(f"Slurm is not installed here: no {', '.join(missing)} (Debian: slurm-wlm, munge)")
    folder = Path(tempfile.mkdtemp(prefix="slurm-"))  # a socket's path has to be short
    daemons: list[subprocess.Popen[bytes]] = []
    cluster = Slurm(folder)

    def start(*command: str) -> None:
        with (folder / f"{command[0]}.txt").open("wb") as output:
            daemons.append(
                subprocess.Popen(
                    command,
                    cwd=folder,
                    env=os.environ | cluster.environment,
                    stdout=output,
                    stderr=output,
                    start_new_session=True,
                )
            )

    try:
        folder.chmod(0o711)  # as munged wants it
        _configure(folder)
        files = {"socket": "munge.socket", "key-file": "munge.key", "pid-file": "munged.pid", "seed-file": "munge.seed"}
        start("munged", "--foreground", *(f"--{option}={folder}/{name}" for option, name in files.items()))
        _wait(lambda: (folder / "munge.socket").exists(), folder)
        start("slurmctld", "-D")
        start("slurmd", "-D")
        _wait(lambda: _is_idle(cluster), folder)
        yield cluster
    finally:
        _stop(cluster, daemons)
        shutil.rmtree(folder, ignore_errors=True)


def _configure(folder: Path) -> None:
    with socket.socket() as one, socket.socket() as other:
        for each in (one, other):
            each.bind(("127.0.0.1", 0))
        ports = [each.getsockname()[1] for each in (one, other)]
    (folder / "munge.key").write_bytes(os.urandom(128))
    (folder / "munge.key").chmod(0o600)
    for name in ("state", "spool"):
        (folder / name).mkdir()
    (folder / "gres.conf").write_text("Name=gpu File=/dev/null\nName=gpu File=/dev/zero\n")  # any two files
    (folder / "slurm.conf").write_text(
        CONFIGURATION.format(
            folder=folder,
            ports=ports,
            host=socket.gethostname().partition(".")[0],
            user=psutil.Process().username(),
            cpus=os.cpu_count(),
            memory=psutil.virtual_memory().total // 2**21,
        )
    )


def _is_idle(cluster: Slurm) -> bool:
    try:
        return cluster.ask("sinfo", "--noheader", "--format=%T") == "idle"
    except subprocess.SubprocessError:
        return False


def _wait(happened: Callable[[], object], folder: Path) -> None:
    end = time.monotonic() + PATIENCE
    while not happened():
        if time.monotonic() > end:
            said = [line for log in folder.glob("*.log") for line in log.read_text().splitlines() if "error" in line]
            raise CannotStart(f"Slurm does not start here: {' '.join(said[-3:]) or 'its logs tell no reason'}")
        time.sleep(0.1)


def _processes(folder: Path) -> list[psutil.Process]:
    """What was started with this Slurm: its jobs, if Slurm has lost sight of them."""
    found = []
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            if process.environ().get("SLURM_CONF") == f"{folder}/slurm.conf":
                found.append(process)
    return found


def _stop(cluster: Slurm, daemons: list[subprocess.Popen[bytes]]) -> None:
    with suppress(subprocess.SubprocessError):  # it never ran, or has ended
        if len(daemons) == 3:
            cluster.ask("scancel", "--signal=KILL", "--full", f"--user={psutil.Process().username()}")
    for daemon in reversed(daemons):
        daemon.terminate()
        try:
            daemon.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            daemon.kill()
            daemon.wait(PATIENCE)
    left = _processes(cluster.folder)
    for process in left:
        with suppress(psutil.NoSuchProcess):
            process.kill()
    psutil.wait_procs(left, PATIENCE)
