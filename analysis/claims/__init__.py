"""Claims of the papers, judged from datasets. Each claim is one function, with a threshold fixed before the runs."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import xarray as xr

from analysis.claims import open_questions, song, song_dynamics, zakarin_singh
from analysis.claims.measured import NotMeasured
from analysis.runs.panels import Panel, read_panels
from analysis.runs.tables import as_csv
from analysis.specs.panels import ClaimSpec
from analysis.store.atomic import write_text
from analysis.store.netcdf import read_dataset


@dataclass(frozen=True)
class Claim:
    """A claim, or our statement on an open question.

    Attributes:
        says: what is claimed.
        holds_if: what has to hold.
        judge: gives whether it holds, and the numbers.
        failure_is_final: whether a failure stays one, whatever the runs of the setting that are missing would give.
        may_diverge: whether `judge` decides what a run that diverged means.
    """

    says: str
    holds_if: str
    judge: Callable[[Panel], tuple[bool, str]]
    failure_is_final: bool = False
    may_diverge: bool = False


CLAIMS: dict[str, Claim] = {
    "song-1": Claim(
        "gradients align with the dominant subspace under SGD", song.ALIGNED, song.aligns, failure_is_final=True
    ),
    "song-lowrank": Claim("k outlier eigenvalues", song.LOW_RANK, song.low_rank, failure_is_final=True),
    "song-2-dom": Claim("Dom-SGD stops training", song.DOM_STOPS, song.dom_stops, failure_is_final=True),
    "song-2-bulk": Claim("Bulk-SGD is as effective as SGD", song.BULK_TRAINS, song.bulk_trains, failure_is_final=True),
    "song-3-off": Claim("alignment goes when SGD turns to GD", song.SWITCHED_OFF, song.switched_off),
    "song-3-on": Claim("alignment comes back when GD turns to SGD", song.SWITCHED_ON, song.switched_on),
    "song-quadratic": Claim("the 2-D quadratic shows phenomena 1 to 3", song.QUADRATIC, song.quadratic),
    "song-eos": Claim(
        "GD saturates at 2/η, aligned; Dom-GD fails, Bulk-GD works",
        song_dynamics.EDGE_OF_STABILITY,
        song_dynamics.edge_of_stability,
        failure_is_final=True,
    ),
    "song-sam": Claim(
        "SAM saturates at the SAM-edge, its updates aligned; Dom-SAM fails, Bulk-SAM works",
        song_dynamics.SAM_EDGE,
        song_dynamics.sam_edge,
        failure_is_final=True,
    ),
    "song-gd-lr": Claim("plain GD has Dom-LR = Bulk-LR = η", song_dynamics.PLAIN_RATES, song_dynamics.plain_rates),
    "song-momentum": Claim("momentum and Adam amplify Bulk-LR", song_dynamics.AMPLIFIED, song_dynamics.amplified),
    "song-speed": Claim("Bulk-LR goes with speed", song_dynamics.SPEED, song_dynamics.speed),
    "song-gd-small": Claim("no alignment along GD at a small learning rate", song.GD_SMALL, song.no_alignment),
    "song-flow": Claim("GD and SGD paths stay close", song.FLOW, song.paths_stay_close),
    "song-distance": Claim("Dom-SGD does not move far", song.DISTANCE, song.distance, failure_is_final=True),
    "zs-faster": Claim("Bulk updates speed up early training", zakarin_singh.FASTER, zakarin_singh.faster),
    "zs-dom-saturates": Claim("Dom-SGD's loss plateaus", song.DOM_STOPS, song.dom_stops, failure_is_final=True),
    "zs-unstable": Claim(
        "sharpness and gradient norm grow exponentially under Bulk-SGD at lr 0.1 and not under SGD",
        zakarin_singh.UNSTABLE,
        zakarin_singh.unstable,
        failure_is_final=True,
        may_diverge=True,
    ),
    "zs-holdout": Claim("holdout size matters little", zakarin_singh.HOLDOUT, zakarin_singh.holdout_matters_little),
    "zs-grid-loss": Claim("low training loss goes with high β_bulk", zakarin_singh.GRID_LOSS, zakarin_singh.grid_loss),
    "zs-grid-accuracy": Claim(
        "the best test accuracy has a larger α_dom than the lowest training loss",
        zakarin_singh.GRID_ACCURACY,
        zakarin_singh.grid_accuracy,
    ),
    "zs-energy-concentrates": Claim(
        "energy of H and H_o is in the dominant subspace",
        zakarin_singh.CONCENTRATES,
        zakarin_singh.energy_concentrates,
        failure_is_final=True,
    ),
    "zs-energy-ggn": Claim(
        "H_o carries it, H_f does not", zakarin_singh.GGN, zakarin_singh.gauss_newton_carries, failure_is_final=True
    ),
    # Our statements on what the papers leave open
    "open-regularisation": Claim(
        "a remedy stops the growth of sharpness under Bulk-SGD at little cost",
        open_questions.REGULARISED,
        open_questions.regularised,
    ),
    "open-schedule": Claim(
        "a schedule of (α_dom, β_bulk) beats every constant pair", open_questions.SCHEDULED, open_questions.scheduled
    ),
    "open-functional-growth": Claim(
        "the growth of sharpness under Bulk-SGD rises with H_f", open_questions.BENT, open_questions.functional_growth
    ),
    "open-functional-lead": Claim(
        "Bulk-SGD's lead over SGD needs H_f", open_questions.LED, open_questions.functional_lead
    ),
    "open-eigenvalues-many": Claim(
        "the growth of sharpness is of many directions", open_questions.MANY, open_questions.many_directions
    ),
    "open-eigenvalues-pass": Claim(
        "the growth of sharpness ends", open_questions.PASSED, open_questions.growth_passes, failure_is_final=True
    ),
    "open-refresh": Claim(
        "a stale subspace costs nothing down to a mean overlap of 0.99",
        open_questions.STALENESS,
        open_questions.staleness,
        may_diverge=True,
    ),
    "open-architectures-lead": Claim(
        "Bulk-SGD's lead over SGD carries over to other architectures",
        open_questions.CARRIES,
        open_questions.lead_carries_over,
        failure_is_final=True,
    ),
    "open-architectures-energy": Claim(
        "the energies carry over to other architectures",
        open_questions.ENERGIES,
        open_questions.energies_carry_over,
        failure_is_final=True,
    ),
    "open-optimizers": Claim(
        "other optimizers amplify the bulk too", open_questions.AMPLIFY, open_questions.amplify, failure_is_final=True
    ),
    "open-batch-alignment": Claim(
        "the larger the batch, the less the gradient aligns", open_questions.BATCHES_ALIGN, open_questions.batches_align
    ),
    "open-batch-switch": Claim(
        "whatever the batch, Dom-SGD stops training and Bulk-SGD trains",
        open_questions.BATCHES_SWITCH,
        open_questions.batches_switch,
    ),
    "open-momentum-branches": Claim(
        "momentum and Adam stop training under Dom-, and train under Bulk-",
        open_questions.REMEMBERED,
        open_questions.remembering_rules,
    ),
}


@dataclass(frozen=True)
class Verdict:
    """A claim in one setting: `holds`, `does not hold` or `not measured` (then `measured` says why)."""

    claim: str
    says: str
    setting: str
    verdict: str
    measured: str
    threshold: str
    runs: str


def judge(claims: Sequence[ClaimSpec], datasets: Mapping[str, Path], outputs: Mapping[str, Path]) -> list[Verdict]:
    """Judges every claim in every setting and writes the verdicts as JSON and CSV.

    Args:
        claims: the claims to judge.
        datasets: the files of the claims' datasets (`analysis.runs.panels.by_name`).
        outputs: path by format, "json" and "csv".

    Raises:
        InputError: a dataset is missing or damaged, or an output cannot be written.
    """
    verdicts = verdicts_of(claims, {name: read_dataset(path) for name, path in datasets.items()})
    rows = [asdict(v) for v in verdicts]
    write_text(as_csv(rows), outputs["csv"])
    write_text(json.dumps(rows, indent=1, ensure_ascii=False) + "\n", outputs["json"])
    return verdicts


def verdicts_of(claims: Sequence[ClaimSpec], datasets: Mapping[str, xr.Dataset]) -> list[Verdict]:
    """Judges as `judge` does, from datasets that were read, without writing the verdicts."""
    verdicts = []
    for claim in claims:
        verdicts += [
            _judge(claim.name, panel, planned.absent or ())
            for planned, panel in zip(claim.panels, read_panels(claim.panels, datasets), strict=True)
        ]
        known = CLAIMS[claim.name]
        verdicts += [
            Verdict(claim.name, known.says, setting, "not measured", reason, known.holds_if, "")
            for setting, reason in claim.absent.items()
        ]
    return verdicts


def _judge(claim: str, panel: Panel, absent: Sequence[str] = ()) -> Verdict:
    known = CLAIMS[claim]
    # (Every claim on families decides what a diverged run means.)
    diverged = [label for label, run in panel.runs.items() if run.attrs["status"] == "diverged"]
    if diverged and not known.may_diverge:
        verdict, measured = "not measured", f"{', '.join(diverged)} diverged"
    else:
        try:
            holds, measured = known.judge(panel)
            verdict, measured = "holds" if holds else "does not hold", measured + _unconverged(panel)
        except NotMeasured as gap:
            verdict, measured = "not measured", str(gap)
    if absent:
        measured += f" (not run: {'; '.join(absent)})"
        if verdict == "holds" or not known.failure_is_final:
            verdict = "not measured"
    members = (member.segments for family in panel.families.values() for member in family)
    ids = dict.fromkeys(i for path in (*panel.segments.values(), *members) for i in path)
    return Verdict(claim, known.says, panel.setting, verdict, measured, known.holds_if, " ".join(ids))


def _unconverged(panel: Panel) -> str:
    """A text that says, for each label, how often an eigensolver missed its tolerance; it is appended to the
    verdict."""
    runs = list(panel.runs.items())
    runs += [(label, member.run) for label, family in panel.families.items() for member in family]
    missed, made = Counter[str](), Counter[str]()
    for label, run in runs:
        for name in {"converged", "refresh_converged"} & set(run.data_vars):
            missed[label] += int((run[name] == 0).sum())
            made[label] += run[name].size
        missed[label] += run.attrs.get("unconverged_rates", 0)
        made[label] += run.sizes.get("rate_step", 0)
    return "".join(f"; {label}: {n:,} of {made[label]:,} eigenspaces not converged" for label, n in missed.items() if n)
