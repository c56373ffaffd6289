"""The report shows what it was given, all of it and nothing else."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import shutil
import subprocess
import sys
from dataclasses import fields
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from analysis import claims
from analysis.agreement import Agreement, ComparedRun, ComparedVerdict, Departure
from analysis.plan.config import Experiments
from analysis.plan.join import CONFIG_DIR
from analysis.plan.outputs import TEMPLATES
from analysis.plan.papers import read_papers
from analysis.plan.yaml import read
from analysis.report.readings import readings_of
from analysis.report.verdicts import Verdict, answer
from analysis.report.words import listed, number, span
from analysis.store.drawn import Line, with_panels
from sharpflat.errors import InputError
from tests.unit.report_example import BLANK, GRID, HOSTILE, LOSSES, PNG, VERDICTS, Example, example

ROOT = Path(__file__).parents[2]
PAPERS = ROOT / "workflow" / "report" / "papers.yaml"
VOID = {"meta", "link", "img", "br", "hr"}
CELLS = {"th", "td"}


class Page(HTMLParser):
    """Elements of a page as (tag, attributes, text within), and its texts."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str], list[str]]] = []
        self._open: list[tuple[str, list[str]]] = []
        self.feed(html)
        assert not self._open, "every element is closed"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        texts: list[str] = []
        self.elements.append((tag, {k: v or "" for k, v in attrs}, texts))
        if tag not in VOID:
            self._open.append((tag, texts))

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop()[0] == tag, f"</{tag}> closes what was opened last"
        if tag in CELLS:
            self.handle_data(" ")

    def handle_data(self, data: str) -> None:
        for _, texts in self._open:
            texts.append(data)

    def of(self, tag: str, **attributes: str) -> list[tuple[dict[str, str], str]]:
        """Attributes and text of the elements with these attributes."""
        return [
            (found, " ".join("".join(texts).split()))
            for name, found, texts in self.elements
            if name == tag and attributes.items() <= {k.replace("-", "_"): v for k, v in found.items()}.items()
        ]


@pytest.fixture
def given(tmp_path: Path) -> Example:
    return example(tmp_path)


@pytest.fixture(scope="module")
def html(tmp_path_factory: pytest.TempPathFactory) -> str:
    return example(tmp_path_factory.mktemp("report")).write()


@pytest.fixture(scope="module")
def page(html: str) -> Page:
    return Page(html)


# ---------------------------------------------------------------- what it shows
def test_verdicts_stand_word_for_word_beside_their_figures(page: Page) -> None:
    shown = [text for _, text in page.of("li")]
    for verdict in VERDICTS:
        assert any(
            verdict["setting"] in text and text.endswith(f"{verdict['verdict']} {verdict['measured']}")
            for text in shown
        ), verdict
    assert "Holds if: median χ ≥ 0.9" in "".join(page.elements[0][2])


def test_a_figure_has_the_verdicts_of_its_settings(page: Page) -> None:
    """The table shows one of them. A verdict on a setting without a figure is at the first figure of its claim."""
    text = "".join(page.elements[0][2])
    beside = dict(zip(("fig01", "table1"), re.split("Figure 1 says|Table 1 says", text)[1:], strict=True))
    found = {name: [v["measured"] for v in VERDICTS[:3] if v["measured"] in part] for name, part in beside.items()}
    assert found == {"fig01": [v["measured"] for v in VERDICTS[:3]], "table1": [VERDICTS[0]["measured"]]}


def test_verdicts_differ_in_more_than_words(page: Page) -> None:
    spans = [(attributes.get("class", ""), text) for attributes, text in page.of("span")]
    assert {(kind, text) for kind, text in spans if "verdict" in kind} == {
        ("verdict holds", "holds"),
        ("verdict fails", "does not hold"),
        ("verdict open", "not measured"),
    }


def test_the_first_heading_is_the_answer() -> None:
    def answered(*verdicts: str) -> str:
        own = dict.fromkeys(("claim", "says", "setting", "measured", "threshold"), "")
        return answer([Verdict(verdict=verdict, **own) for verdict in verdicts])

    holds, fails, unknown = "holds", "does not hold", "not measured"
    assert answered(holds, fails, unknown) == "1 of 3 verdicts hold; 1 does not; 1 was not measured"
    assert answered(*2 * [fails, unknown]) == "0 of 4 verdicts hold; 2 do not; 2 were not measured"
    assert answered(holds, holds) == "2 of 2 verdicts hold"
    assert answered() == "No claim is judged in this profile"


def test_every_verdict_is_a_cell_that_leads_to_its_figure_and_says_what_was_measured(page: Page) -> None:
    looks = {"holds": ("holds", "✓"), "does not hold": ("fails", "✗"), "not measured": ("open", "–")}
    titles = {"mlp": "MLP", "mlp-ce": f"{HOSTILE}, cross-entropy", "cnn": "cnn"}
    homes = ["#song-fig01", "#song-fig01", "#song-fig01", "#Elsewhere"]
    cells = [
        (a.get("class"), a["href"], text) for a, text in page.of("a") if a.get("class") in ("holds", "fails", "open")
    ]
    assert cells == [
        (
            looks[v["verdict"]][0],
            home,
            f"{looks[v['verdict']][1]}{v['claim']}, {titles[v['setting']]} ({v['setting']}): {v['verdict']}. "
            f"{v['measured']}. Holds if: {v['threshold']}.",
        )
        for v, home in zip(VERDICTS, homes, strict=True)
    ]
    (first, second) = page.of("table", **{"class": "map"})
    assert first[1].startswith("A paper mlpMLP (mlp) mlp-ce")
    assert "song-1song-1: gradients align. Holds if: median χ ≥ 0.9." in first[1]
    assert second[1].startswith("Further claims mlpMLP (mlp) ownown: gradients align.")
    key = page.of("ul", **{"class": "key"})
    assert [text for _, text in key] == ["✓ holds ✗ does not hold – not measured"]


def test_the_first_screen_has_the_first_figure_that_there_is(given: Example) -> None:
    def first() -> list[str]:
        page = Page(given.write())
        assert page.elements.index(next(e for e in page.elements if e[1].get("id") == "Headline")) < (
            page.elements.index(next(e for e in page.elements if e[1].get("id") == "Run"))
        )
        return [text for attributes, text in page.of("figcaption")][:1]

    assert first() == ["Figure 1: Training loss.EnlargePoint at a plot to read off its values."]
    figures = given.report.figures
    given.report = given.report.model_copy(update={"figures": (figures[2], figures[1], figures[0])})
    assert first() == ["Figure 1: Training loss.EnlargePoint at a plot to read off its values."]
    given.report = given.report.model_copy(update={"figures": (figures[2], figures[1])})
    assert first() == ["Table 1: Effective learning rates.Enlarge"]
    given.report = given.report.model_copy(update={"figures": ()})
    assert 'id="Headline"' not in given.write()


# ---------------------------------------------------------------- what can be read off
def test_plotted_values_are_there_for_scripts_and_as_tables(page: Page) -> None:
    texts = [a["data-panels"] for a, _ in page.of("img") if "data-panels" in a]
    assert [json.loads(text) for text in texts] == 2 * [[p.model_dump(mode="json") for p in (LOSSES, GRID)]]
    ((_, shown),) = page.of("details", **{"class": "values"})
    assert shown.startswith(f"Plotted values {HOSTILE}: training loss step SGD {HOSTILE} 0 1 1 2 – 0.0123 4 0.5")
    assert shown.endswith("40 0.5 0.0123 accuracy (%) α β = 1 β = 0 0 – 10 0.25 82.25 20")


def test_a_table_of_plotted_values_has_few_rows_and_both_ends() -> None:
    many = tuple(range(0, 100_000, 7))
    line = Line(label="a", values=tuple(-x / 3 for x in many))
    (reading,) = readings_of([LOSSES.model_copy(update={"x": many, "lines": (line,)})])
    assert len(reading.rows) == 20
    assert reading.rows[0] == ["0", "0"]
    assert reading.rows[-1] == ["99,995", "−3.333e+04"]
    assert len({tuple(row) for row in reading.rows}) == 20
    (reading,) = readings_of([LOSSES.model_copy(update={"x": many[:20], "lines": (line,)})])
    assert [row[0] for row in reading.rows] == [f"{x:,}" for x in many[:20]]
    assert readings_of([LOSSES.model_copy(update={"lines": ()})]) == []


def test_each_figure_can_be_enlarged_and_closed(page: Page) -> None:
    figures = [a["id"] for a, _ in page.of("figure")]
    assert figures == ["Headline", "song-fig01-Image", "song-table1-Image", "own-figure-Image"]
    assert [a["href"] for a, _ in page.of("a", **{"class": "enlarge"})] == [f"#{name}" for name in figures]
    back = ["#Claims", "#song-fig01", "#song-table1", "#own-figure"]
    assert [a["href"] for a, _ in page.of("a", **{"class": "close"})] == back


def test_titles_are_text_and_no_markup(html: str, page: Page) -> None:
    assert HOSTILE not in html
    assert len(page.of("script")) == 1, "the report's own"
    assert f"{HOSTILE}, cross-entropy" in "".join(page.elements[0][2])
    assert any(HOSTILE in attributes["alt"] for attributes, _ in page.of("img"))
    assert not page.of("b"), "neither a table's cell nor the deviations can bring their own"


def test_images_are_within_and_their_alternatives_say_what_they_show(page: Page) -> None:
    images = [attributes for attributes, _ in page.of("img")]
    shown = [BLANK, BLANK, PNG, PNG]  # without the values
    assert [i["src"] for i in images] == ["data:image/png;base64," + base64.b64encode(png).decode() for png in shown]
    assert (images[0]["width"], images[0]["height"]) == ("300", "150")
    assert [i["alt"] for i in images[1:]] == [
        f"Plot. Training loss. MLP: runs SGD and Dom-SGD; {HOSTILE}, cross-entropy: run SGD.",
        "Table, also in text below. Effective learning rates. MLP: run GD.",
        "Plot. By rate. MLP: run SGD by η (0.1, 1.5).",
    ]


def test_figures_are_in_the_papers_order_and_others_come_after(page: Page) -> None:
    assert [text for _, text in page.of("h3") if "deviation" not in text] == [
        *("Settings", "Data", "Computation", "Software and machine"),
        "Figure 1 Training loss",
        "Table 1 Effective learning rates",
        "own-figure By rate",
        "A paper",
    ]
    assert [text for _, text in page.of("h2")] == [
        *("Contents", "1 of 3 verdicts hold; 1 does not; 1 was not measured", "What was run"),
        *("A paper", "Further figures", "Further claims", "Deviations and choices"),
    ]
    assert "These verdicts are on the papers' claims. On further questions, 1 of 1 verdicts hold." in [
        text for _, text in page.of("p")
    ]
    assert (
        "The following are not drawn, because they were not run or are not part of this profile: Figure 2 (song-fig02)."
        in [text for _, text in page.of("p")]
    )
    assert "The paper Figure 1 says" in [text for _, text in page.of("p")]


def test_a_table_has_ours_beside_the_published(page: Page) -> None:
    ((_, text),) = page.of("table", **{"class": "numbers"})
    assert text.startswith("measured here published setting method steps measured Dom-LR, mean (standard deviation)")
    assert "mlp GD 13 −0.0005 (0.0176) 0.5 0.0070 (0.0232) −0.32" in text
    assert text.endswith("mlp <b>Adam</b> 0 – – – –")
    assert "Dom-LR, difference in these standard deviations" in text


def test_runs_have_what_they_ended_with_and_links_to_their_datasets(page: Page) -> None:
    rows = [text for _, text in page.of("tr")]
    assert "SGD lr 0.25, batch 20 20 completed 0.04762 12.5 0.875 start → sgd" in rows
    assert "Dom-SGD lr 0.25, batch 20 13 diverged at step 13 – 12.5 0.875 start → dom" in rows
    assert "SGD η = 1.5 lr 0.25, batch 20 13 diverged at step 13 – 12.5 0.875 dom" in rows
    links = {a["href"]: text for a, text in page.of("a")}
    assert links["segments/sgd/trajectory.nc"] == "sgd"
    assert links["segments/crossed/snapshots.nc"] == "snapshots"
    assert links["distances/apart.nc"] == "distances"
    assert links["figures/song-table1.csv"] == "CSV"


def test_a_holdout_is_told_of_a_panel_unless_it_varies(given: Example, page: Page) -> None:
    shown = "Hessian on the last 30, the others trained on"
    assert [shown in text for text in _whats(page)] == [True] * 4
    ((label, family),) = given.panel(2).families
    given.change(2, families=((label, tuple(({"holdout": 30}, path) for _, path in family)),))
    assert [shown in text for text in _whats(Page(given.write()))] == [True, True, True, False]


def _whats(page: Page) -> list[str]:
    return [text for _, text in page.of("p", **{"class": "what"})]


def test_what_was_run_is_summed_up(page: Page) -> None:
    rows = [text for _, text in page.of("tr")]
    what = "2 × 4 tanh, P = 4,321, MSE; polarity-1k (synthetic), first 150"
    assert f"MLP mlp {what} 2; filters also 5 0.25 20 30 7 float32 3 23" in rows
    assert any(row.startswith("polarity-1k (synthetic) polarity1k 150 synthetic 79e2d7d3") for row in rows)
    assert "segments of training 4, 28 steps, 2.0 min in all of them" in rows
    assert "Hessian products 4,468 in training, 0 for energies" in rows
    assert "diverged segments 1: dom" in rows
    assert "refreshes of the dominant subspace 6, 2 of them unconverged" in rows
    assert "device cpu" in rows
    assert "threads of each process 1" in rows


def test_the_sizes_are_said_to_be_not_the_papers_unless_they_are(given: Example) -> None:
    words = "are this profile’s, not the papers’"
    assert words in given.write()
    given.report = given.report.model_copy(update={"profile": "paper"})
    assert words not in given.write()


def test_energies_count_among_the_products(given: Example, tmp_path: Path) -> None:
    import xarray as xr

    from analysis.store.netcdf import write_dataset

    path = tmp_path / "energies" / "measured.nc"
    measured = xr.Dataset({"energy_products": ("snapshot_step", [40, 2])}, attrs={"schema": "energies-1"})
    write_dataset(measured, path, {"seconds": 7.0, "threads": 1, "device": "cuda"})
    given.datasets["measured"] = path
    given.change(1, energies={"start": "measured"})
    rows = [text for _, text in Page(given.write()).of("tr")]
    assert "Hessian products 4,468 in training, 42 for energies" in rows
    assert "curvature along segments 1, 7 s" in rows
    assert "device cpu, cuda" in rows
    assert any(row.endswith("start, energies") for row in rows)


def test_a_setting_that_is_absent_is_named(given: Example) -> None:
    figures = given.report.figures
    figures = (figures[0].model_copy(update={"absent": {"cnn": "not run"}}), *figures[1:])
    given.report = given.report.model_copy(update={"figures": figures})
    assert "Not drawn: cnn (not run)." in [text for _, text in Page(given.write()).of("p")]


def test_a_member_of_a_family_that_is_absent_is_named(given: Example) -> None:
    given.change(0, absent=("SGD, seed 2",))
    said = [text for _, text in Page(given.write()).of("p") if text.startswith("Not drawn: ")]
    assert len(said) == 1
    assert said[0].endswith(": SGD, seed 2 (not run).")


def test_without_claims_none_is_asked_for(given: Example) -> None:
    given.report = given.report.model_copy(update={"claims": ()})
    del given.files["claims.json"]
    page = Page(given.write())
    assert "No claim is judged in this profile" in [text for _, text in page.of("h2")]
    assert not page.of("table", **{"class": "map"})
    assert not page.of("span", **{"class": "verdict holds"})


# ---------------------------------------------------------------- the page
def test_nothing_comes_from_elsewhere(html: str, page: Page) -> None:
    (policy,) = [a["content"] for a, _ in page.of("meta") if a.get("http-equiv") == "Content-Security-Policy"]
    script = re.findall("<script>(.*?)</script>", html, re.S)
    assert script == [(ROOT / "analysis/report/report.js").read_text(encoding="utf-8")]
    own = base64.b64encode(hashlib.sha256(script[0].encode()).digest()).decode()
    assert policy == f"default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'sha256-{own}'"
    links = [a[key] for _, a, _ in page.elements for key in ("src", "href") if key in a]
    assert all(re.match(r"data:image/|#|(segments|distances|figures)/[\w/.-]+$", link) for link in links)
    assert "url(" not in html
    assert "@import" not in html
    assert "other.md" not in html, "links of the deviations would lead nowhere"
    assert not page.of("iframe") + page.of("object") + page.of("form")


def test_links_within_lead_somewhere_and_ids_are_unique(page: Page) -> None:
    ids = [attributes["id"] for _, attributes, _ in page.elements if "id" in attributes]
    assert len(ids) == len(set(ids))
    for attributes, _ in page.of("a"):
        if attributes["href"].startswith("#"):
            assert attributes["href"][1:] in ids
    for _, attributes, _ in page.elements:
        if "aria-labelledby" in attributes:
            assert attributes["aria-labelledby"] in ids


def test_headings_skip_no_level(page: Page) -> None:
    levels = [int(tag[1]) for tag, _, _ in page.elements if re.fullmatch("h[1-6]", tag)]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(after <= before + 1 for before, after in pairwise(levels))


def test_every_wide_thing_scrolls_in_a_region_that_the_keyboard_reaches(page: Page) -> None:
    regions = [attributes for attributes, _ in page.of("div", **{"class": "scroll"})]
    assert len(regions) == len(page.of("table") + page.of("img"))
    assert all(r["tabindex"] == "0" and r["role"] == "region" and r["aria-label"] for r in regions)
    assert len({r["aria-label"] for r in regions}) == len(regions), "each has a name of its own"
    assert {a["tabindex"] for _, a, _ in page.elements if "tabindex" in a} == {"0", "-1"}


def test_the_archived_run_has_a_section_of_its_own(given: Example) -> None:
    without = given.write()
    assert 'id="Agreement"' not in without
    verdicts = (
        ComparedVerdict("song-1", "mlp", ("holds", "median 0.50"), ("holds", "median 0.40")),
        ComparedVerdict("own", "mlp-ce", ("holds", "step 9"), ("does not hold", "step 11")),
    )
    runs = (
        ComparedRun("mlp", "SGD", (("seed", 1.0),), Departure(1340, "eigenvalues", 0.25), 0.25),
        ComparedRun("mlp", "Dom-SGD", (), None, 1e-7),
        ComparedRun("mlp-ce", "GD", (), None, 0.0, True),
    )
    given.agreement = Agreement("quick", verdicts, runs, 2)
    shown = Page(given.write())
    ((_, found),) = shown.of("section", aria_labelledby="Agreement")
    assert [text for _, text in shown.of("a", href="#Agreement")] == ["The archived run"]
    for text in (
        "This run agrees with the archived run: 1 of 2 verdicts; ",
        "1 of 2 runs differ beyond rounding, first at step 1,340",
        "2 runs have no counterpart in the archive",
        "holds: step 9 does not hold: step 11",
        "holds: median 0.50 holds: median 0.40 20.00%",
        "mlp: SGD (seed 1) 1,340 eigenvalues 2.5e-01",
        "differs from the archived one: mlp-ce: GD.",
        "A difference within the first ten steps of a run, or in most runs, is not expected",
    ):
        assert text in found, text
    given.agreement = "the archive <is> damaged"
    assert "was not compared with the archived one: the archive &lt;is&gt; damaged." in given.write()
    given.agreement = None
    assert given.write() == without


def test_equal_inputs_give_equal_bytes_wherever_they_are(given: Example, tmp_path: Path) -> None:
    first = given.write()
    moved = tmp_path / "elsewhere"
    shutil.copytree(tmp_path, moved, ignore=shutil.ignore_patterns("report.html", "elsewhere"))
    given.datasets = {n: moved / p.relative_to(tmp_path) for n, p in reversed(given.datasets.items())}
    given.files = {n: moved / p.relative_to(tmp_path) for n, p in reversed(given.files.items())}
    assert given.write() == first
    assert str(tmp_path) not in first


def test_datasets_may_lie_elsewhere(given: Example) -> None:
    given.report = given.report.model_copy(update={"base": "../archive/"})
    links = {a["href"] for a, _ in Page(given.write()).of("a")}
    assert "../archive/segments/start/trajectory.nc" in links
    assert "figures/song-fig01.pdf" in links


# ---------------------------------------------------------------- what is wrong
@pytest.mark.parametrize(
    ("where", "name", "message"),
    [
        ("datasets", "sgd", "sgd: a figure is made from it, but it is not among the report's datasets"),
        ("datasets", "apart", "apart: a figure is made from it"),
        ("datasets", "crossed/snapshots", "crossed/snapshots: a figure is made from it"),
        ("files", "figures/song-fig01.png", "figures/song-fig01.png: the report shows it"),
        ("files", "claims.json", "claims.json: the report shows it"),
    ],
)
def test_what_is_not_given_is_named(given: Example, where: str, name: str, message: str) -> None:
    del getattr(given, where)[name]
    with pytest.raises(InputError, match=re.escape(message)):
        given.write()
    assert not given.output.exists()


@pytest.mark.parametrize(
    ("where", "name"),
    [
        ("datasets", "sgd"),
        ("datasets", "crossed/snapshots"),
        ("files", "figures/song-fig01.pdf"),
        ("files", "figures/song-table1.csv"),
        ("files", "claims.json"),
    ],
)
def test_a_file_that_is_gone_is_named(given: Example, where: str, name: str) -> None:
    path = getattr(given, where)[name]
    path.unlink()
    with pytest.raises(InputError, match=re.escape(f"{path}: there is no such file")):
        given.write()


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("figures/song-fig01.png", b"GIF89a" + bytes(40), "is no PNG image"),
        ("figures/song-fig01.png", with_panels(PNG, (GRID,)).replace(b"82.25", b"28.25"), "its values cannot be read"),
        ("claims.json", b"[{", "is no readable JSON"),
        ("claims.json", b'[{"claim": "a"}]', "0.says: missing; it has to be given"),
    ],
)
def test_a_damaged_file_is_named(given: Example, name: str, content: bytes, message: str) -> None:
    given.files[name].write_bytes(content)
    with pytest.raises(InputError, match=f"{re.escape(str(given.files[name]))}: {re.escape(message)}"):
        given.write()


# ---------------------------------------------------------------- papers.yaml
def documented() -> dict[str, list[str]]:
    """Claims beside each figure, as docs/figures.md says."""
    text = (ROOT / "docs" / "figures.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `((?:song|zs|open)-[a-z0-9-]+)` \|.*\|([^|]*)\|$", text, re.M)
    return {name: re.findall(r"[a-z0-9-]+", claims) for name, claims in rows}


def test_every_configured_figure_stands_in_one_paper_once_with_its_documented_claims() -> None:
    experiments = read(CONFIG_DIR / "experiments.yaml", Experiments)
    figures = [figure for paper in read_papers(PAPERS) for figure in paper.figures]
    assert sorted(f.id for f in figures) == sorted(experiments.figures)
    assert {f.id: list(f.claims) for f in figures} == documented()
    assert {c for f in figures for c in f.claims} == set(experiments.claims)


def test_tables_and_figures_have_the_numbers_of_their_names() -> None:
    for figure in (figure for paper in read_papers(PAPERS) for figure in paper.figures):
        if found := re.search(r"(fig|table)(\d+)$", figure.id):
            kind = {"fig": "Figure", "table": "Table"}[found[1]]
            assert figure.number == f"{kind} {int(found[2])}"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"claimz": []}, 'papers.0.figures.1.claimz: unknown key; did you mean "claims"?'),
        ({"says": ""}, "papers.0.figures.1.says: found ''"),
        ({"id": "a"}, "papers.0.figures.1.id: found 'a' again; list each id once"),
    ],
)
def test_mistakes_in_papers_name_the_key(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    figure = {"id": "a", "number": "Figure 1", "says": "x", "claims": []}
    paper = {
        "title": "t",
        "authors": "a",
        "year": 2000,
        "note": "n",
        "figures": [figure, {**figure, "id": "b", **change}],
    }
    path = tmp_path / "papers.yaml"
    path.write_text(json.dumps({"papers": [paper]}), encoding="utf-8")
    with pytest.raises(InputError, match=re.escape(f"{path}: {message}")):
        read_papers(path)


def test_papers_are_read_without_heavy_libraries() -> None:
    code = "import sys, analysis.plan.papers; print({'torch', 'xarray', 'jinja2', 'markdown_it'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout.strip() == "set()"


def test_the_report_is_made_again_if_a_template_changes() -> None:
    """Its fingerprint has all files of its package that are no Python."""
    own = {path for path in (ROOT / "analysis" / "report").iterdir() if path.suffix not in (".py", "")}
    assert own == set(TEMPLATES)


def test_a_verdict_has_the_fields_that_claims_write() -> None:
    assert list(Verdict.model_fields) == [field.name for field in fields(claims.Verdict)]


def test_words() -> None:
    assert [number(x) for x in (1234.5, -0.00012345, float("nan"), 200.0)] == ["1,234", "−0.0001234", "–", "200"]
    assert [span(x) for x in (59, 90, 7200)] == ["59 s", "1.5 min", "2.0 h"]
    assert listed(["a", "b", "a", "c"]) == "a, b and c"
