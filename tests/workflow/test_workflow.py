"""The true workflow on a tiny configuration: what is made, and what is written when it is made again.

Which change makes what again is the table of `test_reruns.py`.
"""

from __future__ import annotations

import json
import re
import shlex
import shutil
import subprocess
from pathlib import Path

from analysis.execution.signals import ERASE
from analysis.plan.join import Plan
from tests.workflow.project import CHEAP, Project, jobs

SETTINGS = "workflow/config/tiny.yaml"


def id_of(plan: Plan, segment: str) -> str:
    return plan.runs["mlp", segment][-1]


def test_what_ran(finished: Project) -> None:
    plan, ran = finished.plan(), json.loads((finished.path.parent / "ran.json").read_text(encoding="utf-8"))
    data, distances = (f"data {s}" for s in plan.subsets), (f"distances {d}" for d in plan.distances)
    assert ran == sorted([*plan.segments, *data, *distances, *CHEAP])


def test_every_result_is_there_and_nothing_else(finished: Project) -> None:
    plan = finished.plan()
    expected = [f"data/{s}.nc" for s in plan.subsets]
    expected += [file for s in plan.segments.values() for file in s.files]
    expected += [f"figures/{f}.{kind}" for f in plan.figures for kind in ("pdf", "png")]
    expected += ["figures/rates.csv", *(d.file for d in plan.distances.values())]
    expected += ["claims.csv", "claims.json", "report.html"]
    assert sorted(finished.times()) == sorted(expected)
    assert list((finished.results() / "checkpoints").iterdir()) == []
    figures = finished.results() / "figures"
    assert all(path.read_bytes().startswith(b"%PDF") for path in figures.glob("*.pdf"))
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in figures.glob("*.png"))
    assert list(finished.results().rglob(".*")) == [], "temporary files are left"


def test_a_second_run_does_nothing(project: Project) -> None:
    before = project.times()
    done = project.run()
    assert done.returncode == 0, done.stdout
    assert "Nothing to be done" in done.stdout
    assert done.stdout.splitlines()[-3:] == [
        "Made: nothing new",
        "Claims: 0 hold, 1 do not hold, 2 not measured (make claims)",
        f"Report: {project.results()}/report.html; figures: {project.results()}/figures",
    ]
    assert project.run("status").stdout == "tiny: everything is there.\n"
    assert jobs(done.stdout) == []
    assert project.times() == before


def test_a_terminal_shows_one_line_that_says_how_far_it_is(project: Project) -> None:
    """And nothing of the engine, but for the file that it gets its options from."""
    late = project.plan().runs["mlp", "late-gd"][-1]
    (project.results() / "segments" / late / "trajectory.nc").unlink()
    (project.results() / "report.html").unlink()
    command = shlex.join(["stty", "cols", "100"]) + "; " + shlex.join(project.command())
    done = subprocess.run(
        ["script", "--quiet", "--return", "--command", command, "/dev/null"],
        cwd=project.path,
        env=project.environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=300,
        check=False,
    )
    said = done.stdout.decode()
    assert done.returncode == 0, said
    options, live, claims, report, end = said.split("\n")  # a line that is drawn over ends in none
    assert options.startswith("Using workflow specific profile")
    *drawn, made = live.removesuffix("\r").split(ERASE)
    assert drawn[:2] == ["", "Planning"]
    assert any(re.match(r"\[\.{20}\] 0 %, \d+:\d\d left: " + f"(Training )?{late}", text) for text in drawn), drawn
    assert any(re.match(r"\[#+\.*\] [1-9]\d* %, \d+:\d\d left: Writing the report", text) for text in drawn), drawn
    assert max(map(len, drawn)) < 100
    assert re.fullmatch(r"Made in \d+:\d\d: 1 segment, report", made)
    assert claims.startswith("Claims: ")
    assert report.startswith("Report: ")
    assert end == ""


def test_a_number_of_the_last_segment_reruns_it_and_its_figures(
    finished: Project, rerun: Project, tmp_path: Path
) -> None:
    before, ran = (
        json.loads((rerun.path.parent / f"{name}.json").read_text(encoding="utf-8")) for name in ("before", "ran")
    )
    old, new = finished.plan(), rerun.plan()
    assert set(new.segments) - set(old.segments) == {id_of(new, "late-gd")}
    assert ran == sorted([id_of(new, "late-gd"), "figure loss", "report"])
    after = rerun.times()
    changed = {name for name in after if after[name] != before.get(name)}
    assert changed == {
        f"segments/{id_of(new, 'late-gd')}/trajectory.nc",
        f"segments/{id_of(new, 'late-gd')}/state.safetensors",
        "figures/loss.pdf",
        "figures/loss.png",
        "report.html",
    }
    assert set(before) <= set(after), "what is referred to no more stays until `make stale`"

    # `make stale` finds just the old segment, and removes it on request.
    project = rerun.copy(tmp_path)
    old_folder = f"results/tiny/segments/{id_of(old, 'late-gd')}"
    assert project.run("stale").stdout.splitlines() == [old_folder, "1 stale results found"]
    assert (project.path / old_folder).is_dir()
    project.run("stale", REMOVE="yes")
    assert not (project.path / old_folder).exists()


def test_a_profile_that_diverges_gives_every_figure_and_judges_no_claim(tmp_path: Path) -> None:
    """Divergence is a result: its descendants, distances, energies, families, figures, tables and claims cope."""
    project = Project.of_sources(tmp_path)
    settings = project.path / SETTINGS
    families = (settings.parent / "families.yaml").read_text(encoding="utf-8").partition("settings:\n")[2]
    text = settings.read_text(encoding="utf-8") + families
    settings.write_text(text.replace("learning_rate: 0.05", "learning_rate: 1e30"), encoding="utf-8")
    plan = project.plan()
    ran = project.reproduce()
    assert set(ran) >= {*CHEAP, *plan.segments, "figure cells", "figure curvature"}
    for figure in plan.figures.values():
        assert all((project.results() / file).stat().st_size for file in figure.files)
    verdicts = (project.results() / "claims.csv").read_text(encoding="utf-8")
    assert verdicts.count("not measured") == 3
    assert "diverged" in verdicts
    assert project.would_run() == []


def test_one_file_is_asked_for_by_its_path(project: Project) -> None:
    """What is there is nothing to be done; what is not is made, and nothing else."""
    plan = project.plan()
    late = plan.segments[id_of(plan, "late-gd")]

    def asked(*targets: str, run: str = "dry-run") -> list[str]:
        done = project.run(run, flags=" ".join(targets))
        assert done.returncode == 0, done.stdout
        made = jobs(done.stdout)
        assert ("Nothing to be done" in done.stdout) is (made == [])
        return made

    there = [f"results/tiny/{late.trajectory}", "./results/tiny/figures/loss.pdf", "results/tiny/report.html", "report"]
    assert asked(*there) == []
    shutil.rmtree(project.results() / "segments" / late.id)
    for file in ("loss.png", "rates.pdf", "travelled.pdf"):
        (project.results() / "figures" / file).unlink()
    rates = f"'{project.results()}/figures/rates.csv'"
    assert asked(rates, f"results/tiny/{late.state}", run="reproduce") == sorted(["figure rates", late.id])
    (project.results() / plan.figures["apart"].record).unlink()
    apart = "results/tiny/figures/apart.pdf"
    assert asked(apart, "results/tiny/figures/loss.pdf") == ["figure apart", "figure loss"], "nothing says it is right"
    assert asked("figures") == ["figure apart", "figure loss", "figure travelled"]
    assert "No rule to produce" in project.run(flags="results/tiny/figures/los.pdf").stdout
