"""Fingerprints: what counts as a change of code, for whom, and that nothing which trains escapes them."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

from analysis.plan import names, outputs
from analysis.plan.fingerprint import PACKAGES, ROOT, Code, defined, fingerprint, keys, reached, submodules
from analysis.plan.scopes import Module

# ---------------------------------------------------------------- a small project
FILES = {
    "app/__init__.py": '"""A package."""\n',
    "app/train.py": '''"""Training."""

from __future__ import annotations

import logging
import warnings
from dataclasses import dataclass

import numpy as np

from app import tools
from app.errors import InputError
from lib import norm
from lib.solve import solve as find

log = logging.getLogger(__name__)

STEPS = 10


@dataclass(frozen=True)
class Result:
    """What comes out."""

    value: float
    steps: int = STEPS


def train(data: list, rate=0.1, *, power=2):
    """Train."""
    # A comment
    if not data:
        raise InputError("no data") from ValueError("empty")
    log.info("training at %g", rate)
    warnings.warn("this is slow")
    value = find(data, 7) - rate * norm(data) ** power
    return Result(tools.clip(np.abs(value)))
''',
    "app/draw.py": """
def draw(value):
    from app.tools import clip

    return f"<{clip(value)}>"
""",
    "app/tools.py": """
LIMIT, UNUSED = 1.0, 2.0


def clip(value):
    return min(value, LIMIT)


def unused():
    return UNUSED
""",
    "app/errors.py": "class InputError(ValueError):\n    pass\n",
    "lib/__init__.py": 'from lib.norms import norm\n\n__all__ = ["norm"]\n',
    "lib/norms.py": """
def square(x):
    return x * x


def norm(x):
    return sum(map(square, x))
""",
    "lib/solve.py": """
from functools import cache


class Start:
    def begin(self):
        return 0


class Solver(Start):
    def step(self, x):
        return is_even(x)


def is_even(n):
    return n == 0 or is_odd(n - 1)


def is_odd(n):
    return n != 0 and is_even(n - 1)


@cache
def solve(data, n):
    return Solver().step(n)
""",
}
TRAIN, DRAW, CLIP, UNUSED = "app.train:train", "app.draw:draw", "app.tools:clip", "app.tools:unused"
NORM, SQUARE, SOLVE, EVEN, ODD = (
    "lib.norms:norm",
    "lib.norms:square",
    "lib.solve:solve",
    "lib.solve:is_even",
    "lib.solve:is_odd",
)
ENTRIES = (TRAIN, DRAW, CLIP, UNUSED, NORM, SQUARE, SOLVE, EVEN, ODD)
Edit = tuple[str, str, str]  # file, old text, new text


class Projects:
    """Writes projects, each into a folder of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.count = folder, 0

    def code(self, files: dict[str, str]) -> Code:
        self.count += 1
        root = self.folder / str(self.count)
        for name, text in files.items():
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            (root / name).write_text(text, encoding="utf-8")
        return Code(root, ("app", "lib", "absent"), by_value=("app.specs",))

    def prints(self, files: dict[str, str], entries: Iterable[str] = ENTRIES) -> dict[str, str]:
        code = self.code(files)
        return {entry: code.fingerprint(entry) for entry in entries}

    def renamed(self, after: dict[str, str], before: dict[str, str] = FILES, **moved: str) -> set[str]:
        """The entries whose fingerprint is another after a change; `moved` says by name where one is then."""
        old = self.prints(before)
        places = {entry: moved.get(entry.partition(":")[2], entry) for entry in ENTRIES}
        new = self.prints(after, places.values())
        return {entry for entry in ENTRIES if old[entry] != new[places[entry]]}

    def of(self, text: str, entry: str = "app.it:f", **others: str) -> str:
        """The fingerprint of `f` in a module with this text, next to FILES and `others` in the package `app`."""
        more = {f"app/{name}.py": content for name, content in others.items()}
        return self.code({**FILES, "app/it.py": text, **more}).fingerprint(entry)


@pytest.fixture
def projects(tmp_path: Path) -> Projects:
    return Projects(tmp_path)


def edited(*edits: Edit) -> dict[str, str]:
    files = dict(FILES)
    for file, old, new in edits:
        assert files[file].count(old) == 1, old
        files[file] = files[file].replace(old, new)
    return files


def test_the_small_project_runs(projects: Projects) -> None:
    root = projects.code(FILES).project.root
    code = "from app.train import train; from app.draw import draw; print(draw(train((1, 2)).value))"
    run = subprocess.run([sys.executable, "-Wignore", "-c", code], cwd=root, capture_output=True, text=True, check=True)
    assert run.stdout == "<1.0>\n"


def test_what_is_reached(projects: Projects) -> None:
    code = projects.code(FILES)
    assert code.reached([DRAW]) == {DRAW, CLIP, "app.tools:LIMIT"}
    assert code.reached([TRAIN]) >= {"app.train:Result", "app.train:STEPS", SQUARE, "lib.solve:Start", ODD}
    assert UNUSED not in code.reached([TRAIN])
    assert "app.train:log" not in code.reached([TRAIN])


# ---------------------------------------------------------------- what does not count
@pytest.mark.parametrize(
    "edits",
    [
        [("app/train.py", "    # A comment\n", "")],
        [("app/train.py", '    """Train."""\n', '    """Train.\n\n    At length."""\n')],
        [("app/train.py", '    """Train."""\n', "")],
        [("app/train.py", '"""Training."""\n', "")],
        [("app/train.py", '    """What comes out."""\n', "")],
        [("app/draw.py", "def draw(value):\n", 'def draw(value):\n    """Draw."""\n')],
        [("app/tools.py", "LIMIT, UNUSED = 1.0, 2.0\n", 'LIMIT, UNUSED = 1.0, 2.0\n"""The largest value."""\n')],
        [("app/train.py", "find(data, 7)", "(\n        find(data,\n        7,))")],
        [("app/train.py", '"no data"', 'f"there are no {data}"')],
        [("app/train.py", 'InputError("no data")', "InputError(UNUSED, norm(data))")],
        [("app/train.py", '("empty")', '("none", norm)')],
        [("app/train.py", '"training at %g", rate', '"at %g with %s", rate, norm(data)')],
        [("app/train.py", "log.info", "logging.getLogger(__name__).info")],
        [("app/train.py", "getLogger(__name__)", 'getLogger("training")')],
        [("app/train.py", "log = ", "logger = "), ("app/train.py", "    log.info", "    logger.info")],
        [("app/train.py", '"this is slow"', '"this is very slow", RuntimeWarning')],
        [("app/train.py", "data: list", "data: dict[str, Result]")],
        [("app/train.py", "power=2)", "power: int = 2) -> Result")],
        [("app/train.py", "value: float", "value: int | None")],
        [("app/train.py", "STEPS = 10", "STEPS: int = 10")],
        [("app/train.py", "    value = find", "    value: float = find")],
        [("app/train.py", "import numpy as np\n", "import os\nimport numpy as np\n")],
        [("app/train.py", "import numpy as np", "import numpy"), ("app/train.py", "np.abs", "numpy.abs")],
        [("app/train.py", "import numpy as np", "from numpy import abs"), ("app/train.py", "np.abs", "abs")],
        [("app/train.py", "solve as find", "solve"), ("app/train.py", "find(data, 7)", "solve(data, 7)")],
        [("app/train.py", "from lib import norm", "from lib.norms import norm")],
        [
            ("app/train.py", "from lib import norm", "import lib"),
            ("app/train.py", "norm(data)", "lib.norms.norm(data)"),
        ],
        [("app/train.py", "import logging", "from typing import TYPE_CHECKING\nimport logging")],
        [("app/tools.py", "def clip", "def another():\n    return 1\n\n\ndef clip")],
        [("app/tools.py", "def clip", "ANOTHER = 1\n\n\ndef clip")],
        [("lib/__init__.py", '__all__ = ["norm"]', '__all__ = ["norm", "square"]')],
        [("lib/__init__.py", "\n__all__", "import lib.solve\n__all__")],
        [("app/tools.py", "def clip", 'if __name__ == "__main__":\n    print(1)\n\n\ndef clip')],
        [("app/train.py", "class Result", "class Outcome"), ("app/train.py", "return Result", "return Outcome")],
    ],
)
def test_these_changes_rename_nothing(edits: list[Edit], projects: Projects) -> None:
    assert projects.renamed(edited(*edits)) == set()


@pytest.mark.parametrize(
    "line",
    [
        "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from lib.solve import Solver as list\n",
        "import typing\nif typing.TYPE_CHECKING:\n    list = 3\n",
        "from lib.solve import Solver as list\n",
    ],
)
def test_an_import_for_annotations_renames_nothing(line: str, projects: Projects) -> None:
    """With TYPE_CHECKING or without: `list` is used in an annotation alone."""
    assert projects.renamed(edited(("app/train.py", "import warnings\n", f"import warnings\n{line}"))) == set()


def test_what_type_checkers_do_not_see_counts(projects: Projects) -> None:
    head = "from typing import TYPE_CHECKING\n"
    plain = projects.of("A = 1\ndef f(): return A")
    assert projects.of(f"{head}if not TYPE_CHECKING:\n    A = 1\ndef f(): return A") == plain
    assert projects.of(f"{head}if TYPE_CHECKING:\n    A = 5\nelse:\n    A = 1\ndef f(): return A") == plain
    assert projects.of(f"{head}if not TYPE_CHECKING:\n    A = 2\ndef f(): return A") != plain
    assert projects.of(f"{head}def f():\n    if not TYPE_CHECKING:\n        return A\nA = 1") == plain


def test_reordering_renames_nothing(projects: Projects) -> None:
    files = dict(FILES)
    for file in ("app/tools.py", "lib/norms.py", "lib/solve.py"):
        head, *definitions = files[file].split("\n\n\n")
        files[file] = "\n\n\n".join([head, *reversed(definitions)] if "import" in head else [*definitions[::-1], head])
    assert files["lib/norms.py"] != FILES["lib/norms.py"]
    assert projects.renamed(files) == set()


def test_renaming_a_module_renames_nothing(projects: Projects) -> None:
    files = {name: text.replace("lib.norms", "lib.lengths") for name, text in FILES.items()}
    files["lib/lengths.py"] = files.pop("lib/norms.py")
    assert projects.renamed(files, norm="lib.lengths:norm", square="lib.lengths:square") == set()


def test_renaming_a_package_renames_nothing(projects: Projects) -> None:
    files = {name.replace("lib/", "app/inner/"): text.replace("lib", "app.inner") for name, text in FILES.items()}
    moved = {entry.partition(":")[2]: entry.replace("lib.", "app.inner.") for entry in ENTRIES}
    assert projects.renamed(files, **moved) == set()


def test_moving_a_function_to_another_module_renames_nothing(projects: Projects) -> None:
    square = "def square(x):\n    return x * x\n"
    files = edited(("lib/norms.py", square, "from app.tools import square\n"))
    files["app/tools.py"] += square
    assert projects.renamed(files, square="app.tools:square") == set()


def test_renaming_a_function_and_all_its_uses_renames_nothing(projects: Projects) -> None:
    files = edited(("lib/norms.py", "def square", "def power"), ("lib/norms.py", "map(square", "map(power"))
    assert projects.renamed(files, square="lib.norms:power") == set()


# ---------------------------------------------------------------- what counts, and for whom
WHOLE_TRAIN, CLIPPED = {TRAIN}, {TRAIN, DRAW, CLIP}
SOLVED = {TRAIN, SOLVE}


@pytest.mark.parametrize(
    ("edit", "expected"),
    [
        (("app/tools.py", "1.0, 2.0", "1.5, 2.0"), {*CLIPPED, UNUSED}),  # one statement binds both
        (("app/tools.py", "LIMIT, UNUSED = 1.0, 2.0", "UNUSED, LIMIT = 1.0, 2.0"), {*CLIPPED, UNUSED}),
        (("app/tools.py", "min(value, LIMIT)", "max(value, LIMIT)"), CLIPPED),
        (("app/tools.py", "return UNUSED", "return -UNUSED"), {UNUSED}),
        (("app/train.py", "rate=0.1", "rate=0.2"), WHOLE_TRAIN),
        (("app/train.py", "power=2", "power=3"), WHOLE_TRAIN),
        (("app/train.py", "power=2", "power=2.0"), WHOLE_TRAIN),
        (("app/train.py", "STEPS = 10", "STEPS = 11"), WHOLE_TRAIN),
        (("app/train.py", "steps: int = STEPS", "steps: int = 10"), WHOLE_TRAIN),
        (("app/train.py", "    value: float\n", ""), WHOLE_TRAIN),
        (("app/train.py", "value: float", "value: ClassVar[float]"), WHOLE_TRAIN),
        (("app/train.py", "value: float", "value: dataclasses.InitVar[float]"), WHOLE_TRAIN),
        (("app/train.py", "value: float", "_: KW_ONLY\n    value: float"), WHOLE_TRAIN),
        (("app/train.py", "frozen=True", "frozen=False"), WHOLE_TRAIN),
        (("app/train.py", "@dataclass(frozen=True)\n", ""), WHOLE_TRAIN),
        (("app/train.py", "data, 7) - rate", "data, 7) + rate"), WHOLE_TRAIN),
        (("app/train.py", 'raise InputError("no data")', 'raise KeyError("no data")'), WHOLE_TRAIN),
        (("app/train.py", "if not data", "if data"), WHOLE_TRAIN),
        (("app/train.py", "np.abs", "np.sign"), WHOLE_TRAIN),
        (("app/train.py", "import numpy as np", "import torch as np"), WHOLE_TRAIN),
        (("app/train.py", "from lib import norm", "from lib.norms import square as norm"), WHOLE_TRAIN),
        (("app/errors.py", "ValueError", "RuntimeError"), WHOLE_TRAIN),
        (("app/draw.py", "<{clip", "[{clip"), {DRAW}),
        (("app/draw.py", "(value)}", "(value):.3f}"), {DRAW}),
        (("app/draw.py", "import clip", "import unused as clip"), {DRAW}),
        (("lib/norms.py", "x * x", "x ** 2"), {TRAIN, NORM, SQUARE}),  # a helper's helper, in another package
        (("lib/solve.py", "@cache\n", ""), SOLVED),
        (("lib/solve.py", "Solver(Start)", "Solver"), SOLVED),
        (("lib/solve.py", "return 0", "return 1"), SOLVED),  # a method of the base class
        (("lib/solve.py", "def begin", "def commence"), SOLVED),
        (("lib/solve.py", "import cache", "import lru_cache as cache"), SOLVED),
        (("lib/solve.py", "n != 0 and", "n != 1 and"), {*SOLVED, EVEN, ODD}),
        (("lib/__init__.py", "from lib.norms import norm", "from lib.norms import square as norm"), WHOLE_TRAIN),
    ],
)
def test_these_changes_rename_just_what_reaches_them(edit: Edit, expected: set[str], projects: Projects) -> None:
    assert projects.renamed(edited(edit)) == expected


def test_where_the_fields_given_by_keyword_begin_counts(projects: Projects) -> None:
    text = "class f:\n    _: {}\n    x: int"
    assert projects.of(text.format("KW_ONLY")) != projects.of(text.format("int"))


def test_swapping_two_modules_renames_just_what_reaches_them(projects: Projects) -> None:
    files = {**FILES, "app/other.py": "def clip(value):\n    return max(value, -1.0)\n"}
    files["app/train.py"] = files["app/train.py"].replace("import tools\n", "import tools, other\n")
    swapped = {
        **files,
        "app/other.py": files["app/tools.py"],
        "app/tools.py": files["app/other.py"] + "unused = clip\n",
    }
    files["app/other.py"] += "unused = clip\n"
    assert projects.renamed(swapped, files) == {*CLIPPED, UNUSED}


def test_the_order_of_entries_counts_and_their_number(projects: Projects) -> None:
    code = projects.code(FILES)
    found = [code.fingerprint(*entries) for entries in ((TRAIN, DRAW), (DRAW, TRAIN), (DRAW,), (TRAIN,), (DRAW, DRAW))]
    assert len(set(found)) == len(found)
    assert {len(each) for each in found} == {16}


# ---------------------------------------------------------------- modules as a whole, and how imports are spelt
def test_a_module_counts_with_all_that_it_defines_and_the_names(projects: Projects) -> None:
    whole = projects.of("A = 1\ndef f(): return A", "app.it")
    assert projects.of("def f(): return A\nA = 1", "app.it") == whole
    assert (
        projects.of("import os\nimport logging\nlog = logging.getLogger()\nA = 1\ndef f(): return A", "app.it") == whole
    )
    for other in ("A = 2\ndef f(): return A", "A = 1\nB = 2\ndef f(): return A", "A = 1\ndef g(): return A"):
        assert projects.of(other, "app.it") != whole, other


@pytest.mark.parametrize(
    "text",
    [
        "from lib import norm\ndef f(x): return norm(x)",
        "from lib.norms import norm\ndef f(x): return norm(x)",
        "import lib\ndef f(x): return lib.norm(x)",
        "import lib.norms\ndef f(x): return lib.norms.norm(x)",
        "import lib.norms as n\ndef f(x): return n.norm(x)",
        "from lib import norms\ndef f(x): return norms.norm(x)",
        "def f(x):\n    from lib import norm as n\n    return n(x)",
        "def f(x):\n    import lib.norms\n    return lib.norms.norm(x)",
        "from .handed import anything\ndef f(x): return anything(x)",
        "from . import handed as h\ndef f(x): return h.anything(x)",
        "from app import handed\ndef f(x): return handed.anything(x)",
        "from importlib import import_module\ndef f(x): return import_module('lib.norms').norm(x)",
        "import importlib as i\ndef f(x):\n    return i.import_module('lib').norm(x)",
    ],
)
def test_however_it_is_imported_it_is_the_same(text: str, projects: Projects) -> None:
    handed = {"handed": "from lib import norm as anything\n"}
    plain = projects.of(
        "def square(x):\n    return x * x\ndef norm(x): return sum(map(square, x))\ndef f(x): return norm(x)"
    )
    assert projects.of(text, **handed) == plain


def test_a_relative_import_in_a_package_starts_there(projects: Projects) -> None:
    files = {
        **FILES,
        "app/inner/__init__.py": "from .deep import g\nfrom ..tools import clip\ndef f(): return g, clip\n",
    }
    files["app/inner/deep.py"] = "def g(): return 1\n"
    assert projects.code(files).reached(["app.inner:f"]) >= {"app.inner.deep:g", CLIP}


@pytest.mark.parametrize(
    "text",
    [
        "from app import tools\ndef f(name): return getattr(tools, name)",
        "from app import tools\ndef f(g): return g(tools)",
        "import app.tools as t\nTABLE = {1: t}\ndef f(): return TABLE",
        "import app.tools\ndef f(): return app.tools.absent",
        "from app.tools import absent\ndef f(): return absent",
        "def f():\n    from app import tools\n    return vars(tools)",
    ],
)
def test_a_module_used_in_another_way_counts_as_a_whole(text: str, projects: Projects) -> None:
    tools = FILES["app/tools.py"]
    before = projects.of(text)
    assert projects.of(text, tools=tools.replace("2.0", "3.0")) != before
    assert projects.of(text, tools=tools + "\ndef another(): pass\n") != before
    assert projects.of(text, tools=tools + "\nimport os\n# A comment\n") == before


def test_a_package_as_a_value_counts_with_what_it_hands_on(projects: Projects) -> None:
    text = "import lib\ndef f(name): return getattr(lib, name)"
    files = {**FILES, "app/it.py": text}
    assert projects.code(files).reached(["app.it:f"]) == {"app.it:f", NORM, SQUARE}


LAZY = """
from typing import TYPE_CHECKING
if TYPE_CHECKING:
    from app.tools import clip
def where(name): return 1
def __getattr__(name):
    where(name)
    from app import elsewhere
    return getattr(elsewhere, name)
"""


def test_a_lazy_package_counts_for_what_it_defines(projects: Projects) -> None:
    files = {**FILES, "lib/lazy/__init__.py": LAZY, "lib/lazy/sub.py": "A = 1\n", "app/elsewhere.py": "B = 1\n"}
    files["app/it.py"] = "from lib.lazy import clip, sub, where\ndef f(): return clip\ndef g(): return sub.A, where\n"
    code = projects.code(files)
    lazy = {"lib.lazy:clip", "lib.lazy:__getattr__", "lib.lazy:where", "app.elsewhere:B"}
    assert code.reached(["app.it:f"]) == {"app.it:f", *lazy, CLIP, "app.tools:LIMIT"}
    assert code.reached(["app.it:g"]) == {"app.it:g", "lib.lazy.sub:A", "lib.lazy:where"}
    texts = [files["app/it.py"].replace("clip", name) for name in ("clip", "clap", "clop")]
    found = {projects.code({**files, "app/it.py": text}).fingerprint("app.it:f") for text in texts}
    assert len(found) == 3, "the name that is requested from it"


def test_no_star_imports_from_the_project(projects: Projects) -> None:
    projects.of("from math import *\ndef f(): return sin(1)")
    with pytest.raises(ValueError, match=r"app\.it: the star import from app\.tools hides which names it binds"):
        projects.of("from app.tools import *\ndef f(): return clip(1)")


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ("app.absent:f", "app.absent is no module of the packages app, lib"),
        ("app.absent", "app.absent is no module of the packages app, lib"),
        ("numpy:abs", "numpy is no module"),
        ("app.train:absent", "app.train defines no absent to hash"),
        ("app.train:np", "app.train defines no np to hash"),
        ("app:train", "app defines no train to hash"),
    ],
)
def test_no_entry_of_that_name(entry: str, message: str, projects: Projects) -> None:
    with pytest.raises(KeyError, match=message):
        projects.code(FILES).fingerprint(entry)


def test_specifications_count_by_value(projects: Projects) -> None:
    texts = [
        "from app.specs import Spec\ndef f(x): return Spec.validate(x)",
        "from app import specs\ndef f(x): return specs.Spec.validate(x)",
        "from app.specs.deep import Other\ndef f(x): return Other.validate(x)",
    ]
    files = {**FILES, "app/specs/deep.py": "from app.train import train\nclass Other: pass\ntrain.x = 1\n"}
    before = {**files, "app/specs/__init__.py": "class Spec: a = 1\n"}
    after = {**files, "app/specs/__init__.py": "class Spec: a = 2\nclass Another: pass\nprint('effect')\n"}
    found = {
        projects.code({**all_, "app/it.py": text}).fingerprint("app.it:f") for all_ in (before, after) for text in texts
    }
    assert len(found) == 1
    assert projects.code({**before, "app/it.py": texts[0]}).reached(["app.it:f"]) == {"app.it:f"}


# ---------------------------------------------------------------- what names are
@pytest.mark.parametrize(
    ("text", "counts"),
    [
        ("def f(): return helper()", True),
        ("def f(x=helper): return x", True),
        ("def f(): return (lambda: helper)()", True),
        ("def f():\n    def inner(): return helper\n    return inner", True),
        ("def f(): return [helper for x in y]", True),
        ("def f(): return [helper for helper in y], helper", True),
        ("def f(): return [x for x in helper]", True),
        ("def f(): return [helper for helper in helper]", True),
        ("class f:\n    helper = helper", True),
        ("class f:\n    def helper(self): return helper()", True),
        ("class f:\n    x = 1\n    class g:\n        y = helper", True),
        ("def f(x):\n    match x:\n        case helper.A: return 1", True),
        ("def f():\n    global helper\n    helper = 3\n    return helper", True),
        ("class f:\n    helper = 1\n    def g(self): return helper", True),
        ("def f():\n    helper = 1\n    def g():\n        global helper\n        return helper\n    return g", True),
        ("def f():\n    class helper: pass\n    return 1\ng = helper", False),
        ("def f(helper): return helper", False),
        ("def f(*helper): return helper", False),
        ("def f(*, helper=1): return helper", False),
        ("def f(**helper): return helper", False),
        ("def f():\n    helper = 1\n    return helper", False),
        ("def f():\n    for helper in x: pass\n    return helper", False),
        ("def f():\n    with x as helper: return helper", False),
        ("def f():\n    try: pass\n    except E as helper: return helper", False),
        ("def f():\n    import helper\n    return helper", False),
        ("def f():\n    def helper(): pass\n    return helper", False),
        ("def f():\n    if (helper := 1): return helper", False),
        ("def f():\n    [y for x in z if (helper := x)]\n    return helper", False),
        ("def f(x):\n    match x:\n        case [helper]: return helper", False),
        ("def f(x):\n    match x:\n        case [1, *helper]: return helper", False),
        ("def f(x):\n    match x:\n        case {1: 2, **helper}: return helper", False),
        ("def f(): return [helper for helper in x]", False),
        ("def f(): return {helper: 1 for helper in x}", False),
        ("def f(): return lambda helper: helper", False),
        ("def f():\n    helper = 1\n    def inner(): return helper\n    return inner", False),
        (
            "def f():\n    helper = 1\n    def g():\n        nonlocal helper\n        return helper\n    return g",
            False,
        ),
        ("class f:\n    helper = 1\n    x = helper", False),
        ("class f:\n    def helper(self): pass\n    x = property(helper)", False),
        ("def f(x): return x.helper", False),
        ("def f(x): return x(helper=1)", False),
        ("def f(x: helper) -> helper: return x", False),
        ("def f():\n    x: helper = 1\n    return x", False),
    ],
)
def test_what_is_a_local_variable(text: str, counts: bool, projects: Projects) -> None:
    one, other = (projects.of(f"{text}\ndef helper(): return {value}") for value in (1, 2))
    assert (one != other) == counts


@pytest.mark.parametrize(
    "text",
    [
        "try:\n    import numpy as f\nexcept ImportError:\n    f = {}",
        "if x:\n    def f(): return {}\nelse:\n    def f(): return 5",
        "f = 1\nf = {}",
        "f = 1\nf += {}",
        "for f in range({}): pass",
        "with open({}) as f: pass",
        "(f, (g, *h)) = 1, {}",
        "def f():\n    try:\n        from lib import norm as n\n    except ImportError:\n        n = {}\n    return n",
    ],
)
def test_all_that_binds_a_name_counts(text: str, projects: Projects) -> None:
    assert projects.of(text.format(1)) != projects.of(text.format(2))


def test_one_of_two_imports_under_a_name_counts(projects: Projects) -> None:
    text = (
        "def f(x):\n    if x:\n        from lib.norms import {} as n\n    else:\n        import os as n\n    return n"
    )
    assert projects.of(text.format("norm")) != projects.of(text.format("square"))


def test_definitions_that_refer_to_each_other(projects: Projects) -> None:
    ring = "def f(): return {}, g()\ndef g(): return 1, h()\ndef h(): return 2, f()"
    one, other = projects.of(ring.format(0)), projects.of(ring.format(3))
    assert one != other
    assert projects.of(ring.format(0), "app.it:h") != projects.of(ring.format(3), "app.it:h")
    moved = ring.format(0).replace("g", "m").replace("h", "g")
    assert projects.of("\n".join(reversed(moved.split("\n")))) == one
    assert projects.of("def f(n): return f(n - 1)") != projects.of("def f(n): return f(n - 2)")
    assert projects.of("def f(n): return f(n)") != projects.of("def f(n): return g(n)\ndef g(n): return 1")
    assert projects.of("def g(n): return g(n)", "app.it:g") == projects.of("def f(n): return f(n)")


# ---------------------------------------------------------------- what importing does
REGISTERED = "from app.table import TABLE, register\ndef f(n): return TABLE[n]\n"
TABLE = "TABLE = {}\ndef register(g):\n    TABLE[g] = g\n    return g\n"


@pytest.mark.parametrize(
    "effect",
    [
        "TABLE['a'] = {}",
        "TABLE.x = {}",
        "register({})",
        "TABLE |= {}",
        "import torch\ntorch.backends.x = {}",
        "for n in range({}):\n    TABLE[n] = n",
        "if True:\n    register({})",
        "@register\ndef g(): return {}",
        "del TABLE[{}]",
        "def g(): return {}\nregister(g)",
    ],
)
def test_effects_of_an_import_count(effect: str, projects: Projects) -> None:
    head = "from app.table import TABLE, register\n"
    assert len({filled(projects, text) for text in ("", head + effect.format(1), head + effect.format(2))}) == 3


def filled(projects: Projects, text: str, through: str = "import app.filler") -> str:
    files = {"app/it.py": f"{REGISTERED}{through}\n", "app/table.py": TABLE, "app/middle.py": "import app.filler\n"}
    files |= {"app/deep/__init__.py": "from app import filler\n", "app/deep/leaf.py": "", "app/filler.py": text}
    return projects.code({**FILES, **files}).fingerprint("app.it:f")


@pytest.mark.parametrize("through", ["from app import filler", "from app import middle", "import app.deep.leaf"])
def test_effects_of_what_imports_import_count(through: str, projects: Projects) -> None:
    assert filled(projects, "print(1)", through) != filled(projects, "print(2)", through)


@pytest.mark.parametrize(
    "text", ["def g(): return 1", "__all__ = ['g']", "import os", "'text'", "class C: x = print(1)"]
)
def test_definitions_are_no_effects(text: str, projects: Projects) -> None:
    assert filled(projects, text) == filled(projects, "")


def test_effects_of_what_a_function_imports_count_too(projects: Projects) -> None:
    text = "def f():\n    import app.filler\n    return 1\ndef g(): return 1"
    one, other = ({"filler": f"print({value})"} for value in (1, 2))
    assert projects.of(text, **one) != projects.of(text, **other)
    assert projects.of(text, "app.it:g", **one) == projects.of(text, "app.it:g", **other)


def test_effects_of_what_nothing_imports_do_not_count(projects: Projects) -> None:
    files = {**FILES, "app/other.py": "import app.train\nprint(1)\n"}
    assert projects.renamed(files) == set()


# ---------------------------------------------------------------- this project
SGD_ON_MLP = ("analysis.training.batch:train_batch", "analysis.models.mlp:build", "analysis.rules.sgd:Rule")
ENERGIES = ("analysis.measurement.energies:measure_energies", "analysis.models.mlp:build")
FIGURE = ("analysis.figures:draw_figures", "analysis.figures.distance:draw")
PLANNED = {
    "training": SGD_ON_MLP,
    "a transformer": ("analysis.training.batch:train_batch", "analysis.models.transformer:build"),
    "energies": ENERGIES,
    "figure": FIGURE,
    "another figure": ("analysis.figures:draw_figures", "analysis.figures.alignment:draw"),
    "claims": ("analysis.claims:judge",),
    "report": ("analysis.report:write_report",),
    "distances": ("analysis.measurement.distances:write_distances",),
}
TRAINED = {"training", "a transformer"}


def place(name: str) -> str:
    """The file of the module that ends so, wherever it is."""
    found = [path for package in ("analysis", "sharpflat") for path in (ROOT / package).rglob(name)]
    assert len(found) == 1, found
    return str(found[0].relative_to(ROOT))


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tree")
    for package in ("analysis", "sharpflat"):
        if (ROOT / package).is_dir():
            shutil.copytree(ROOT / package, folder / package, ignore=shutil.ignore_patterns("__pycache__"))
    return folder


@pytest.fixture(scope="module")
def before(tree: Path) -> dict[str, str]:
    return prints_of(tree)


def prints_of(tree: Path) -> dict[str, str]:
    code = Code(tree)
    return {name: code.fingerprint(*entries) for name, entries in PLANNED.items()}


def changed_by(tree: Path, before: dict[str, str], *edits: Edit) -> set[str]:
    sources = {file: (tree / file).read_text(encoding="utf-8") for file, _, _ in edits}
    try:
        for file, old, new in edits:
            assert old in sources[file], file
            (tree / file).write_text(sources[file].replace(old, new), encoding="utf-8")
        after = prints_of(tree)
        return {name for name in PLANNED if after[name] != before[name]}
    finally:
        for file, source in sources.items():
            (tree / file).write_text(source, encoding="utf-8")


@pytest.mark.slow
def test_what_renames_nothing_of_this_project(tree: Path, before: dict[str, str]) -> None:
    edits = [
        (place("atomic.py"), "def write_text", "def unrelated():\n    return 1\n\n\ndef write_text"),
        (place("eigensolver.py"), "def top_eigenspace", "UNRELATED = 1\n\n\ndef top_eigenspace"),
        (
            place("training/problem.py"),
            '"{spec.data.holdout} of',
            '"of {spec.data.examples} only {spec.data.holdout} of',
        ),
        (place("training/segment.py"), "begins at step %d", "starts at step %d"),
        (place("signals.py"), "ONE_SIGNAL_SECONDS = 1.0", "ONE_SIGNAL_SECONDS = 2.0"),
        (place("optim/memory.py"), "_CAST_ERROR = 0.05", "_CAST_ERROR = 0.06"),
        (place("style.py"), "import seaborn as sns", "import os\nimport seaborn as sns"),
    ]
    assert changed_by(tree, before, *edits) == set()


@pytest.mark.parametrize(
    ("module", "old", "new", "expected"),
    [
        ("eigensolver.py", "_SEED = 20240601", "_SEED = 20240602", {*TRAINED, "energies"}),
        ("subspace_filter.py", "alpha_dom * ", "-alpha_dom * ", TRAINED),
        ("mlp.py", "Linear(", "Bilinear(", {"training", "energies"}),
        (
            "modules/transformer.py",
            "class Transformer(nn.Module)",
            "class Transformer(nn.Sequential)",
            {"a transformer"},
        ),
        ("energies.py", "GRID = ", "GRID = 2 * ", {"energies"}),
        ("style.py", "DPI = ", "DPI = 2 * ", {"figure", "another figure"}),
        ("song.py", "MIN_GAP = 1.25", "MIN_GAP = 1.5", {"claims"}),
        ("page.py", "def page(", "def page(_, ", {"report"}),
    ],
)
def test_what_a_change_of_this_project_renames(
    module: str, old: str, new: str, expected: set[str], tree: Path, before: dict[str, str]
) -> None:
    file = "analysis/measurement/energies.py" if module == "energies.py" else place(module)
    assert changed_by(tree, before, (file, old, new)) == expected


def test_figures_and_claims_reach_no_training() -> None:
    drawing = [
        f"analysis.figures.{m}:draw"
        for m in submodules("analysis.figures")
        if "draw" in defined(f"analysis.figures.{m}")
    ]
    assert len(drawing) > 10
    for entry in ("analysis.claims:judge", "analysis.report:write_report", *drawing):
        heavy = ("analysis.training", "analysis.rules", "analysis.models", "sharpflat.curvature")
        assert not [name for name in reached([entry]) if name.startswith(heavy)]


def test_looking_into_modules_without_importing_them() -> None:
    assert "style" in submodules("analysis.figures")
    assert "draw" in defined("analysis.figures.distance")
    assert "draw" not in defined("analysis.figures.style")
    assert "song-1" in keys("analysis.claims", "CLAIMS")
    with pytest.raises(KeyError, match="defines no dictionary"):
        keys("analysis.claims", "CLAMS")


@pytest.mark.slow
def test_the_fingerprints_of_a_plan_read_and_write_everything_once(monkeypatch: pytest.MonkeyPatch) -> None:
    from analysis.plan.join import load_plan

    asked: list[tuple[str, ...]] = []

    def ask(*entries: str) -> str:
        asked.append(entries)
        return fingerprint(*entries)

    for module in (names, outputs):
        monkeypatch.setattr(module, "fingerprint", ask)
    plan = load_plan("quick")
    assert len(asked) >= len(plan.segments) + len(plan.figures)

    done: list[tuple[str, object]] = []
    for owner, name in ((Module, "__init__"), (Code, "_written"), (Code, "_reached")):
        original = getattr(owner, name)

        def counted(self: object, subject: object, *more: object, name: str = name, original: Any = original) -> object:
            done.append((name, subject))
            return original(self, subject, *more)

        monkeypatch.setattr(owner, name, counted)
    code = Code(ROOT)
    for entries in asked:
        code.fingerprint(*entries)
    times = Counter(done)
    assert Counter(name for name, _ in times).keys() == {"__init__", "_written", "_reached"}
    assert not [what for what, count in times.items() if count > 1]


def test_processes_agree_and_import_nothing_heavy() -> None:
    code = f"""
import sys
from analysis.plan.fingerprint import fingerprint
print(fingerprint(*{SGD_ON_MLP!r}), *({{"torch", "xarray", "numpy", "grimp"}} & set(sys.modules)))
"""
    for seed in ("1", "2"):
        environment = os.environ | {"PYTHONPATH": str(ROOT), "PYTHONHASHSEED": seed}
        done = subprocess.run([sys.executable, "-c", code], env=environment, text=True, capture_output=True, check=True)
        assert done.stdout == f"{fingerprint(*SGD_ON_MLP)}\n"


@pytest.mark.slow
def test_no_function_that_trains_escapes(tmp_path: Path) -> None:
    """What training calls, by whatever way it comes to it, is in its fingerprint."""
    from analysis.plan.plan import PlannedSegment
    from analysis.specs import StopSpec
    from analysis.store.netcdf import write_dataset
    from tests.specs import probes as measured
    from tests.unit.test_segment import TEST, TRAIN, spec

    probes = measured(loss=2, test=2, spectrum=2, rates=2, snapshots=2)
    first = spec(holdout=5, probes=probes, stop=StopSpec(steps=4))
    second = spec(holdout=5, probes=probes, stop=StopSpec(steps=4), parent="first", alpha=0.5, batch=None)
    specs = {"first": first, "second": second}
    files = [str(tmp_path / name) for name in ("train.nc", "test.nc")]
    for file, dataset in zip(files, (TRAIN, TEST), strict=True):
        write_dataset(dataset, Path(file))
    called: set[str] = set()

    def note(frame: FrameType, event: str, argument: object) -> None:
        module = frame.f_globals.get("__name__") or ""
        if module.partition(".")[0] in PACKAGES and frame.f_code.co_filename.endswith(".py"):
            called.add(f"{module}:{frame.f_code.co_qualname.partition('.')[0]}")

    from analysis.training.batch import train_batch

    folders = [tmp_path / "results" / "segments" / name for name in specs]
    planned = [PlannedSegment(id=name, spec=own, fingerprint="") for name, own in specs.items()]
    before = sys.gettrace()
    sys.settrace(note)
    try:
        for parent, segment, folder in zip((None, folders[0]), planned, folders, strict=True):
            train_batch(
                [segment],
                data=files,
                parents=[] if parent is None else [str(parent / "state.safetensors")],
                trajectories=[str(folder / "trajectory.nc")],
                states=[str(folder / "state.safetensors")],
                snapshots=[str(folder / "snapshots.nc")],
                threads=1,
                checkpoint_seconds=0.0,
            )
    finally:
        sys.settrace(before)
    entries = (*SGD_ON_MLP, *(f"analysis.training.probes.{kind}:Probe" for kind in sorted(probes)))
    assert names.segment_fingerprint(first) == fingerprint(*entries)
    assert len(called) > 40
    apart = {name for name in called if name.startswith(("analysis.specs:", "analysis.specs.")) or ":<" in name}
    assert called - apart - reached(entries) == set()
