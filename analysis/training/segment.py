"""One segment: an update rule, run from its parent's final state until its stop, with probes on the way."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import torch
import xarray as xr
from torch import Tensor

from analysis.rules import build as build_rule
from analysis.specs import SegmentSpec
from analysis.training.probes import Records, Schedule, to_dataset, to_snapshots
from analysis.training.problem import Problem, make_problem
from analysis.training.sampler import Sampler
from analysis.training.state import Checkpoint, State, read_checkpoint, write_checkpoint
from sharpflat.curvature.eigensolver import NonFiniteProductError, TopEigenspace, top_eigenspace
from sharpflat.curvature.operators import Hessian
from sharpflat.curvature.subspace import DominantSubspace
from sharpflat.errors import InputError
from sharpflat.optim.effective import effective_learning_rates
from sharpflat.optim.subspace_filter import SubspaceFilter

log = logging.getLogger(__name__)

CHECKPOINT_SECONDS = 60.0
PROGRESS_SECONDS = 5.0
UNSEEN_STEPS = 50  # steps at most that the host makes without a look at what they gave
COUNTERS = ("probe_products", "filter_products", "refreshes", "unconverged_refreshes", "unconverged_rates")


class Interrupted(Exception):
    """Training was asked to stop; its checkpoint is written, and the same command continues from it."""


class _Diverged(ArithmeticError):
    """A number that decides what comes next is not finite."""


def _finite(value: Tensor | float, what: str) -> float:
    if not math.isfinite(value):
        raise _Diverged(f"{what} is not finite")
    return float(value)


@dataclass(frozen=True)
class Result:
    """What a segment leaves: what it measured, and the state its children begin from.

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
    """Train one segment, from its checkpoint if there is one.

    Args:
        spec: what to do.
        name: the segment's id, for messages and attributes.
        train: training subset (schema of `analysis.data`).
        test: test subset.
        parent: final state of the parent, on any device; None for a segment that begins at the initialisation.
        device: where to train; a checkpoint of another one is continued there.
        checkpoint: file to continue from and to write to every `checkpoint_seconds`; it is left there, with the
            finished segment in it, for the caller to remove once the result is safe.
        checkpoint_seconds: longest stretch of training that a kill can lose.
        interrupted: asked before each step; True writes the checkpoint and raises `Interrupted`.

    Raises:
        InputError: if data, parent or checkpoint do not fit the specification.
        Interrupted: see above.
    """
    problem = make_problem(spec.problem, train, test, spec.seed, device)
    run = _Run(spec, name, problem, _begin(spec, name, problem, parent, checkpoint))
    saved = time.monotonic()
    while run.checkpoint.stopped_by is None:
        stop = interrupted()
        if checkpoint is not None and (stop or time.monotonic() - saved >= checkpoint_seconds):
            run.settle()
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
            log.warning("%s; starting the segment anew", error)
        else:
            log.info("%s: continues from its checkpoint at step %d", name, resumed.state.step)
            return resumed.on(problem.training.device)
    if (parent is None) != (spec.parent is None):
        raise InputError(
            f"{name}: its parent is {spec.parent}; the state given is {'none' if parent is None else 'one'}"
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
    return Checkpoint(
        state,
        start=state.theta,
        first_step=state.step,
        counters={
            "probe_products": 0,
            "filter_products": 0,
            "refreshes": 0,
            "unconverged_refreshes": 0,
            "unconverged_rates": 0,
        },
    )


def _continued(initial: dict[str, Tensor], parent: State) -> dict[str, Tensor]:
    """What the parent's rule remembered, where the new rule remembers the same (Adam goes on as Adam); else afresh."""
    return dict(parent.optimizer) if parent.optimizer.keys() == initial.keys() else initial


class _Run:
    """The loop's body. Everything that must survive an interruption is in `checkpoint`."""

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
        first, probes = checkpoint.first_step, spec.probes
        self.last_step = spec.stop.step if spec.stop.step is not None else first + (spec.stop.steps or 0)
        self.loss_schedule = Schedule(first, probes.loss)
        self.test_schedule = Schedule(first, probes.test)
        self.spectrum_schedule = Schedule(first, probes.spectrum)
        self.rates_schedule = Schedule(first, probes.rates)
        self.snapshot_schedule = Schedule(first, probes.snapshots)
        self.schedules = (
            self.loss_schedule,
            self.test_schedule,
            self.spectrum_schedule,
            self.rates_schedule,
            self.snapshot_schedule,
        )
        self.filter = self._filter()
        self.full_batch: tuple[Tensor, Tensor, Tensor] | None = None  # θ, and the value and gradient there
        self.seen = self._place()  # up to here all updates were finite
        self.doubtful_until = 0  # the step by which one was not
        self.begun = self.reported = time.monotonic()
        self.begun_step = self.state.step

    def _filter(self) -> SubspaceFilter | None:
        weights = self.spec.filter
        if weights is None:
            return None
        if self.checkpoint.dominant is not None:
            DominantSubspace(self.checkpoint.dominant)  # verified where it comes from a file, and not at every step
        return SubspaceFilter(
            k=weights.k or self.spec.problem.k,
            refresh_every=weights.refresh_every,
            tolerance=weights.tolerance,
            dominant=self.checkpoint.dominant,
            start=self.state.filter_basis,
            refreshed_at=self.checkpoint.refreshed_at,
        )

    # ------------------------------------------------------------ one step
    def advance(self) -> None:
        """Measure at the current step, then make one update, unless the segment ends here.

        Between the steps at which something is measured or decided the host waits for no device: it sees later whether
        the updates were finite, and if not, goes back and makes those steps again, looking at each.
        """
        if self.state.diverged_at is not None:
            self.checkpoint.stopped_by = "divergence of an earlier segment"
            return
        step = self.state.step
        last = step >= self.last_step
        looks = self._looks(step, last)
        if looks and not self.settle():
            return
        try:
            measured = self._probe(last)
            if self.checkpoint.stopped_by is not None:
                return
            rates_due = self.rates_schedule.due(step, last=False)
            rated = self._subspace_for_rates(measured is not None) if rates_due else None
            update = self._update()
        except (_Diverged, NonFiniteProductError) as error:
            self._diverge(str(error))
            return
        if looks and not bool(torch.isfinite(update).all()):
            self._diverge("the update is not finite")
            return
        if measured is not None:
            self.records.amend("update_alignment", float(measured.alignment(update)))
        if rated is not None:
            dom_lr, bulk_lr = effective_learning_rates(update, gradient=self._value_and_gradient()[1], subspace=rated)
            self.records.add("rate_step", step, dom_lr=dom_lr, bulk_lr=bulk_lr)
        self.state.theta = self.state.theta + update
        self.state.step = step + 1
        if looks:
            self.seen = self._place()
        self._report()

    def _looks(self, step: int, last: bool) -> bool:
        """Whether the host looks at numbers at this step."""
        weights = self.spec.filter
        refresh = self.filter is not None and self.filter.due(step)
        return (
            last
            or step < self.doubtful_until
            or step - self.seen[0] >= UNSEEN_STEPS
            or any(schedule.due(step, last) for schedule in self.schedules)
            or (refresh and weights is not None and weights.alpha_dom != weights.beta_bulk)
        )

    def _place(self) -> tuple[int, Tensor, dict[str, Tensor]]:
        return self.state.step, self.state.theta, self.state.optimizer

    def settle(self) -> bool:
        """Whether all updates so far were finite; else go back to where they were.

        What is not finite in θ stays so, whatever is added to it.
        """
        if self.state.step > self.seen[0] and not bool(torch.isfinite(self.state.theta).all()):
            self.doubtful_until = self.state.step
            self.state.step, self.state.theta, self.state.optimizer = self.seen
            return False
        self.seen = self._place()
        return True

    def _update(self) -> Tensor:
        indices = self.sampler.indices(self.state.step)
        update, self.state.optimizer = self.rule.update(
            self.state.theta,
            lambda theta: self._gradient(theta, indices),
            self.state.optimizer,
        )
        weights = self.spec.filter
        if weights is None or self.filter is None:
            return update
        update, refresh = self.filter.apply(
            update, self.state.step, self._hessian, alpha_dom=weights.alpha_dom, beta_bulk=weights.beta_bulk
        )
        if refresh is not None:
            self.checkpoint.dominant, self.checkpoint.refreshed_at = self.filter.dominant, refresh.step
            self.state.filter_basis = self.filter.start
            self._count("filter_products", refresh.products)
            self._count("refreshes", 1)
            self._count("unconverged_refreshes", int(not refresh.converged))
            self.records.add(
                "refresh_step",
                refresh.step,
                overlap=refresh.overlap,
                refresh_products=refresh.products,
                refresh_converged=int(refresh.converged),
            )
        return update

    def _gradient(self, theta: Tensor, indices: Tensor | None) -> Tensor:
        if indices is None and theta is self.state.theta:
            return self._value_and_gradient()[1]
        return self.problem.training.gradient(theta, indices)

    def _value_and_gradient(self) -> tuple[Tensor, Tensor]:
        """On the full batch at the current θ, evaluated once a step, whoever asks."""
        if self.full_batch is None or self.full_batch[0] is not self.state.theta:
            self.full_batch = (self.state.theta, *self.problem.training.value_and_gradient(self.state.theta))
        return self.full_batch[1:]

    def _hessian(self) -> Hessian:
        return Hessian(self.problem.curvature, self.state.theta)

    def _top(self, k: int, basis: Tensor | None, tolerance: float) -> TopEigenspace:
        return top_eigenspace(self._hessian(), k, start=basis, tolerance=tolerance)

    def _count(self, name: str, amount: int) -> None:
        self.checkpoint.counters[name] += amount

    # ------------------------------------------------------------ measuring
    def _probe(self, last: bool) -> DominantSubspace | None:
        """Run the probes that are due; the subspace if it was measured. Ends the segment where it is to end."""
        step, theta = self.state.step, self.state.theta
        spectrum_due = self.spectrum_schedule.due(step, last)
        dominant = self._probe_spectrum() if spectrum_due else None
        threshold = self.spec.stop.alignment_ema
        if threshold is not None and spectrum_due and self.state.alignment_ema > threshold:
            last = True
            self.checkpoint.stopped_by = "alignment_ema"
        elif last:
            self.checkpoint.stopped_by = "steps"
        if self.loss_schedule.due(step, last):
            value, gradient = self._value_and_gradient()
            numbers = torch.stack([value, gradient.norm(), (theta - self.checkpoint.start).norm()])
            found = numbers.tolist()  # all at once: each would wait for the device
            loss = _finite(found[0], "the training loss")
            norm = _finite(found[1], "the gradient's norm")
            distance = _finite(found[2], "the distance from the start")
            self.records.add("step", step, loss=loss, gradient_norm=norm, distance=distance)
        if self.test_schedule.due(step, last):
            self.records.add(
                "test_step",
                step,
                test_loss=float(self.problem.test.value(theta)),
                test_accuracy=self.problem.test_accuracy(theta),
            )
        if self.snapshot_schedule.due(step, last):
            self.records.add("snapshot_step", step, theta=theta.cpu().numpy().copy())
        return dominant

    def _subspace_for_rates(self, measured: bool) -> DominantSubspace:
        """The dominant subspace at the current θ, to the rates' own tolerance; the spectrum's block is a start."""
        k, basis = self.spec.problem.k, self.state.rates_basis
        if measured and self.state.spectrum_basis is not None:
            basis = self.state.spectrum_basis[:, : k + 2].contiguous()
        found = self._top(k, basis, self.spec.probes.rates_tolerance)
        self.state.rates_basis = found.start.contiguous()
        self._count("probe_products", found.products)
        self._count("unconverged_rates", int(not found.converged))
        return DominantSubspace(found.eigenvectors)

    def _probe_spectrum(self) -> DominantSubspace:
        """Top-2k eigenvalues, χ_k(∇L) and its EMA."""
        k, theta = self.spec.problem.k, self.state.theta
        gradient = self._value_and_gradient()[1]
        norm = _finite(gradient.norm(), "the gradient's norm")
        found = self._top(min(2 * k, theta.numel()), self.state.spectrum_basis, self.spec.probes.tolerance)
        self.state.spectrum_basis = found.start.contiguous()
        self._count("probe_products", found.products)
        dominant = DominantSubspace(found.eigenvectors[:, :k])
        alignment = float(dominant.alignment(gradient))
        # A segment's first measurement is its parent's last one: it enters the average once.
        if self.state.step != self.checkpoint.first_step or self.spec.parent is None:
            factor = self.spec.probes.ema_factor
            self.state.alignment_ema = factor * self.state.alignment_ema + (1 - factor) * alignment
        self.records.add(
            "spectrum_step",
            self.state.step,
            eigenvalues=found.eigenvalues.double().cpu().numpy(),
            residual=float(found.residuals.max()),
            converged=int(found.converged),
            alignment=alignment,
            alignment_ema=self.state.alignment_ema,
            update_alignment=math.nan,
            stability_threshold=self.rule.stability_threshold(norm),
            probe_products=self.checkpoint.counters["probe_products"],
            filter_products=self.checkpoint.counters["filter_products"],
        )
        return dominant

    # ------------------------------------------------------------ ending
    def _diverge(self, reason: str) -> None:
        log.warning("%s: diverged at step %d: %s", self.name, self.state.step, reason)
        self.state.diverged_at = self.state.step
        self.checkpoint.stopped_by = "divergence"

    def result(self) -> Result:
        by = self.checkpoint.stopped_by or ""
        attributes = {
            "id": self.name,
            "status": "diverged" if self.state.diverged_at is not None else "completed",
            "stopped_by": by,
            "first_step": self.checkpoint.first_step,
            "last_step": self.state.step,
            "diverged_at": -1 if self.state.diverged_at is None else self.state.diverged_at,
            "parameters": self.problem.training.theta.numel(),
            "train_title": self.problem.titles[0],
            "test_title": self.problem.titles[1],
            **self.checkpoint.counters,
        }
        count = min(2 * self.spec.problem.k, self.problem.training.theta.numel())
        objectives = {id(o): o for o in (self.problem.training, self.problem.curvature, self.problem.test)}
        halvings = tuple(pair for objective in objectives.values() for pair in objective.halvings)
        snapshots = to_snapshots(self.records, self.spec, attributes)
        return Result(to_dataset(self.records, self.spec, count, attributes), snapshots, self.state, halvings)

    def _report(self) -> None:
        now = time.monotonic()
        if now - self.reported < PROGRESS_SECONDS:
            return
        self.reported = now
        rate = (self.state.step - self.begun_step) / (now - self.begun)
        left = (self.last_step - self.state.step) / rate
        log.info(
            "%s: step %d of %d, loss %.3g, at most %d:%02d left",
            self.name,
            self.state.step,
            self.last_step,
            self.records.rows["loss"][-1],
            *divmod(round(left), 60),
        )
