"""The resources that a job of each stage requests from a cluster: a table in the workflow profile, read at every
start."""

from __future__ import annotations

import math
from collections.abc import Callable

from analysis.specs import Count, Frozen, Positive, Size

Resource = int | str | Callable[[object, int], int]


class Needs(Frozen):
    """The needs of a stage's jobs at their first attempt. The n-th attempt requests n times the memory and the time."""

    mem_mb: Count | None = None  # of all processes of a job; None means the estimate
    runtime: Count = 60  # minutes
    refreshes_per_minute: Positive | None = None  # the expected work, at this rate, is added to the minutes
    gpu: Size = 1  # 0: the job runs on the CPU
    gpu_model: str | None = None
    gres: str | None = None
    slurm_partition: str | None = None
    slurm_account: str | None = None
    qos: str | None = None
    constraint: str | None = None
    slurm_extra: str | None = None

    def resources(self, refreshes: float, memory: float) -> dict[str, Resource]:
        """The resources of a job with this much expected work, in the form that a rule of the workflow takes.

        Resources that grow with the attempt are functions of (wildcards, attempt).

        Args:
            refreshes: expected number of refreshes, or of work that costs as much.
            memory: estimated bytes (`analysis.costs.workload`).
        """
        minutes, mem_mb = self.runtime, self.mem_mb or math.ceil(memory / 1e6)
        if self.refreshes_per_minute is not None:
            minutes += round(refreshes / self.refreshes_per_minute)
        return {
            "mem_mb": lambda wildcards, attempt: mem_mb * attempt,
            "runtime": lambda wildcards, attempt: minutes * attempt,
            **self.model_dump(exclude_none=True, exclude={"mem_mb", "runtime", "refreshes_per_minute"}),
        }


class Stages(Frozen):
    """The rules whose jobs a cluster runs. The jobs of all other rules run on the engine's node."""

    segments: Needs = Needs()
    energies: Needs = Needs()
