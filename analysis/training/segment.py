"""Training of one segment: an update rule that starts from its parent's final state, with probes along the way."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import torch
import xarray as xr
from torch import Tensor

from analysis.rules import build as build_rule
from analysis.specs import SegmentSpec, StoppedBy
from analysis.training.probes import BaseProbe, Diverged, Moment, Row
from analysis.training.probes import build as build_probes
from analysis.training.problem import Problem, make_problem
from analysis.training.records import REFRESH_STEP, Records, Schedule, to_snapshots, to_trajectory
from analysis.training.sampler import Sampler
from analysis.training.state import Checkpoint, State, read_checkpoint, write_checkpoint
from sharpflat.curvature.operators import Hessian
from sharpflat.curvature.subspace import DominantSubspace
from sharpflat.curvature.symmetric import NonFiniteProductError
from sharpflat.errors import InputError
from sharpflat.optim.subspace_filter import SubspaceFilter

log = logging.getLogger(__name__)

CHECKPOINT_SECONDS = 60.0
PROGRESS_SECONDS = 5.0
# These exist from the beginning.
COUNTERS = ("probe_products", "filter_products", "refreshes", "unconverged_refreshes", "missed_refreshes")


class Interrupted(Exception):
    """Training was interrupted. Its checkpoint is written, and the same command continues from it."""


@dataclass(frozen=True)
class Result:
    """The result of a segment: its measurements, and the state from which its children start.

    `halvings` lists (from, to) for each time that memory ran out and the chunk of examples was halved.
    """

    trajectory: xr.Dataset
    snapshots: xr.Dataset | None
    state: State
    halvings: tuple[tuple[int, int], ...]


def train_segment(
    spec: SegmentSpec,
    name: str,
    train: xr.Dataset,
    test: xr.Dataset,
    parent: State | None,
    *,
    device: torch.device | str = "cpu",
    checkpoint: Path | None = None,
    checkpoint_seconds: float = CHECKPOINT_SECONDS,
    interrupted: Callable[[], bool] = lambda: False,
) -> Result:
    """Trains one segment, from its checkpoint if there is one.

    Args:
        spec: the specification of the segment.
        name: the segment's id, for messages and attributes.
        train: training subset (schema of `analysis.data`).
        test: test subset.
        parent: final state of the parent, on any device; None for a segment that starts from the initialisation.
        device: the device on which to train. A checkpoint from another device is continued there.
        checkpoint: file from which to continue, and which is written every `checkpoint_seconds`. At the end it holds
            the finished segment, and the caller removes it once the result is safe.
        checkpoint_seconds: longest time of training that a kill can lose.
        interrupted: function that is called before each step. If it returns True, the checkpoint is written and
            `Interrupted` is raised.

    Raises:
        InputError: the data, the parent or the checkpoint do not fit the specification.
        Interrupted: see above.
    """
    problem = make_problem(spec.problem, train, test, spec.seed, device)
    run = _Run(spec, name, problem, _begin(spec, name, problem, parent, checkpoint))
    saved = time.monotonic()
    while run.checkpoint.stopped_by is None:
        stop = interrupted()
        if checkpoint is not None and (stop or time.monotonic() - saved >= checkpoint_seconds):
            write_checkpoint(run.checkpoint, checkpoint)
            saved = time.monotonic()
        if stop:
            raise Interrupted(f"{name}: interrupted at step {run.state.step}; the same command continues from there")
        run.advance()
    if checkpoint is not None:
        write_checkpoint(run.checkpoint, checkpoint)
    return run.result()


def _begin(spec: SegmentSpec, name: str, problem: Problem, parent: State | None, checkpoint: Path | None) -> Checkpoint:
    size = problem.training.theta.numel()
    if checkpoint is not None and checkpoint.exists():
        try:
            resumed = read_checkpoint(checkpoint)
        except InputError as error:
            log.warning("%s; the segment starts again from the beginning", error)
        else:
            log.info("%s: continues from its checkpoint at step %d", name, resumed.state.step)
            return resumed.on(problem.training.device)
    if (parent is None) != (spec.parent is None):
        raise InputError(
            f"{name}: its parent is {spec.parent}, but the given state is {'none' if parent is None else 'one'}"
        )
    if parent is None:
        state = State(theta=problem.training.theta)
        state.optimizer = build_rule(spec.rule).initial_state(state.theta)
    else:
        if parent.theta.numel() != size:
            raise InputError(
                f"{name}: its parent {spec.parent} holds {parent.theta.numel()} parameters, the model has {size}"
            )
        parent = parent.on(problem.training.device)
        state = replace(parent, optimizer=_continued(build_rule(spec.rule).initial_state(parent.theta), parent))
    log.info("%s: begins at step %d", name, state.step)
    return Checkpoint(state, start=state.theta, first_step=state.step, counters=dict.fromkeys(COUNTERS, 0))


def _continued(initial: dict[str, Tensor], parent: State) -> dict[str, Tensor]:
    """The state of the parent's rule, if the new rule remembers the same (Adam continues as Adam); otherwise a new
    state."""
    return dict(parent.optimizer) if parent.optimizer.keys() == initial.keys() else initial


class _Run:
    """The body of the training loop. Everything that must survive an interruption is in `checkpoint`."""

    def __init__(self, spec: SegmentSpec, name: str, problem: Problem, checkpoint: Checkpoint) -> None:
        self.spec, self.name, self.problem, self.checkpoint = spec, name, problem, checkpoint
        self.state = checkpoint.state
        self.records = Records(checkpoint.records)
        self.rule = build_rule(spec.rule)
        self.sampler = Sampler(
            spec.problem.data.examples - spec.problem.data.holdout,
            spec.rule.batch_size,
            spec.seed,
            replacement=spec.rule.replacement,
            device=problem.training.device,
        )
        first = checkpoint.first_step
        self.last_step = spec.stop.step if spec.stop.step is not None else first + (spec.stop.steps or 0)
        self.probes = build_probes(spec.probes, self.state.kept)
        self.schedules = {kind: Schedule(first, numbers.every) for kind, numbers in spec.probes.items()}
        self.filter = self._filter()
        self.full_batch: tuple[Tensor, Tensor, Tensor] | None = None  # θ, and the value and gradient there
        self.begun = self.reported = time.monotonic()
        self.begun_step = self.state.step

    def _filter(self) -> SubspaceFilter | None:
        weights = self.spec.filter
        if weights is None:
            return None
        if self.checkpoint.dominant is not None:
            DominantSubspace(self.checkpoint.dominant)  # verified when it is read from a file, and not at every step
        return SubspaceFilter(
            k=weights.k or self.spec.problem.k,
            tolerance=weights.tolerance,
            **weights.refreshes,
            dominant=self.checkpoint.dominant,
            start=self.state.kept.get("filter", {}).get("start"),
            refreshed_at=self.checkpoint.refreshed_at,
            interval=self.checkpoint.interval,
        )

    def advance(self) -> None:
        """Measures at the current step, and then makes one update unless the segment ends here."""
        if self.state.diverged_at is not None:
            self.checkpoint.stopped_by = StoppedBy.EARLIER_DIVERGENCE
            return
        moment = self._moment()
        try:
            rows = self._measure(moment)
            if self.checkpoint.stopped_by is not None:
                return
            update = self._update()
        except (Diverged, NonFiniteProductError) as error:
            self._diverge(str(error))
            return
        if not bool(torch.isfinite(update).all()):
            self._diverge("the update is not finite")
            return
        self._measure_update(moment, update, rows)
        self.state.theta = self.state.theta + update
        self.state.step += 1
        self._report()

    def _update(self) -> Tensor:
        indices = self.sampler.indices(self.state.step)
        update, self.state.optimizer = self.rule.update(
            self.state.theta, lambda theta: self._gradient(theta, indices), self.state.optimizer
        )
        weights = self.spec.filter
        if weights is None or self.filter is None:
            return update
        update, refresh = self.filter.apply(
            update, self.state.step, self._hessian, alpha_dom=weights.alpha_dom, beta_bulk=weights.beta_bulk
        )
        if refresh is not None:
            self.checkpoint.dominant, self.checkpoint.refreshed_at = self.filter.dominant, refresh.step
            self.checkpoint.interval = self.filter.interval
            self.state.kept["filter"] = {"start": self.filter.start}
            self._count("filter_products", refresh.products)
            self._count("refreshes", 1)
            self._count("unconverged_refreshes", int(not refresh.converged))
            self._count("missed_refreshes", int(not refresh.kept))
            self.records.add(
                REFRESH_STEP,
                refresh.step,
                overlap=refresh.overlap,
                refresh_products=refresh.products,
                refresh_converged=int(refresh.converged),
                refresh_interval=refresh.interval,
                refresh_error=refresh.error,
                refresh_kept=int(refresh.kept),
            )
        return update

    def _gradient(self, theta: Tensor, indices: Tensor | None) -> Tensor:
        if indices is None and theta is self.state.theta:
            return self._value_and_gradient()[1]
        return self.problem.training.gradient(theta, indices)

    def _value_and_gradient(self) -> tuple[Tensor, Tensor]:
        """The loss and gradient of the full batch at the current θ, which are evaluated at most once per step."""
        if self.full_batch is None or self.full_batch[0] is not self.state.theta:
            self.full_batch = (self.state.theta, *self.problem.training.value_and_gradient(self.state.theta))
        return self.full_batch[1:]

    def _hessian(self) -> Hessian:
        return Hessian(self.problem.curvature, self.state.theta)

    def _count(self, name: str, amount: int) -> None:
        self.checkpoint.counters[name] += amount

    def _moment(self) -> Moment:
        return Moment(
            self.spec,
            self.problem,
            self.rule,
            self.state.step,
            self.checkpoint.first_step,
            self.state.theta,
            self.checkpoint.start,
            self._value_and_gradient,
            self.checkpoint.counters,
        )

    def _due(self, place: Literal["first", "usual", "update"], last: bool) -> list[tuple[str, BaseProbe]]:
        """The probes with this place that are due at this step."""
        return [
            (kind, probe)
            for kind, probe in self.probes.items()
            if self.spec.probes[kind].place == place and self.schedules[kind].due(self.state.step, last)
        ]

    def _measure(self, moment: Moment) -> dict[str, Row]:
        """Runs the probes that are due and returns their rows by kind. Ends the segment if it has to end here."""
        last, threshold = self.state.step >= self.last_step, self.spec.stop.alignment_ema
        rows: dict[str, Row] = {}
        aligned = False
        for kind, probe in self._due("first", last):
            rows[kind] = self._recorded(probe, moment)
            aligned = aligned or (threshold is not None and rows[kind].get("alignment_ema", 0.0) > threshold)
        if aligned:
            self.checkpoint.stopped_by = StoppedBy.ALIGNMENT
        elif last:
            self.checkpoint.stopped_by = StoppedBy.STEPS
        for kind, probe in self._due("usual", last or aligned):
            rows[kind] = self._recorded(probe, moment)
        if self.checkpoint.stopped_by is None:
            for kind, probe in self._due("update", last=False):
                rows[kind] = probe.measure(moment)
        return rows

    def _recorded(self, probe: BaseProbe, moment: Moment) -> Row:
        row = probe.measure(moment)
        self.records.add(probe.dimension, moment.step, **row)
        return row

    def _measure_update(self, moment: Moment, update: Tensor, rows: dict[str, Row]) -> None:
        for kind, row in rows.items():
            probe = self.probes[kind]
            more = probe.updated(moment, update)
            if self.spec.probes[kind].place == "update":
                self.records.add(probe.dimension, moment.step, **row, **more)
                continue
            for name, value in more.items():
                self.records.amend(name, value)

    def _diverge(self, reason: str) -> None:
        log.warning("%s: diverged at step %d: %s", self.name, self.state.step, reason)
        self.state.diverged_at = self.state.step
        self.checkpoint.stopped_by = StoppedBy.DIVERGENCE

    def result(self) -> Result:
        attributes = {
            "id": self.name,
            "status": "diverged" if self.state.diverged_at is not None else "completed",
            "stopped_by": str(self.checkpoint.stopped_by or ""),
            "first_step": self.checkpoint.first_step,
            "last_step": self.state.step,
            "diverged_at": -1 if self.state.diverged_at is None else self.state.diverged_at,
            "parameters": self.problem.training.theta.numel(),
            "train_title": self.problem.titles[0],
            "test_title": self.problem.titles[1],
            **self.checkpoint.counters,
        }
        objectives = {id(o): o for o in (self.problem.training, self.problem.curvature, self.problem.test)}
        halvings = tuple(pair for objective in objectives.values() for pair in objective.halvings)
        measured = (self.records, self.spec, self.probes, attributes)
        return Result(to_trajectory(*measured), to_snapshots(*measured), self.state, halvings)

    def _report(self) -> None:
        now = time.monotonic()
        if now - self.reported < PROGRESS_SECONDS:
            return
        self.reported = now
        rate = (self.state.step - self.begun_step) / (now - self.begun)
        left = (self.last_step - self.state.step) / rate
        loss = self.records.rows.get("loss")
        log.info(
            "%s: step %d of %d%s, at most %d:%02d left",
            self.name,
            self.state.step,
            self.last_step,
            f", loss {loss[-1]:.3g}" if loss else "",
            *divmod(round(left), 60),
        )
