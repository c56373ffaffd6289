"""Code fingerprints: which package modules a function reaches, hashed over their parsed code.

Comments, docstrings and formatting do not count, nor what only type checkers see (under `if TYPE_CHECKING:`).
Modules that are chosen by name at run time (models, update rules, figures) are no static imports: whoever chooses names
them as further entries.
"""

from __future__ import annotations

import ast
import hashlib
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path

import grimp

PACKAGE = "analysis"
ROOT = Path(__file__).resolve().parents[1]
_TYPE_CHECKING = "TYPE_CHECKING"
BY_VALUE = "analysis.specs"  # hashed as the values themselves, see analysis.plan.join


def fingerprint(*entries: str) -> str:
    """Sixteen hex digits over the code of `entries` and of all package modules that they import.

    Args:
        entries: module names, e.g. "analysis.training.segment".

    Raises:
        KeyError: if an entry is no module of the package.
    """
    digest = hashlib.sha256()
    for module in sorted(reached(entries)):
        digest.update(f"{module}:{_code_hash(module)}\n".encode())
    return digest.hexdigest()[:16]


def reached(entries: Iterable[str]) -> frozenset[str]:
    """The entries, what they import within the package, and the `__init__` of every package on the way."""
    graph = _graph()
    found: set[str] = set()
    todo = [entry.partition(":")[0] for entry in entries]
    while todo:
        module = todo.pop()
        if module in found or module == "analysis.data":  # whose catalogue no training reaches
            continue
        if module not in graph.modules:
            raise KeyError(f"{module} is no module of the package {PACKAGE}")
        found.add(module)
        todo += graph.find_modules_directly_imported_by(module)
        if "." in module:
            todo.append(module.rpartition(".")[0])
    return frozenset(name for name in found if not f"{name}.".startswith(f"{BY_VALUE}."))


def submodules(package: str) -> list[str]:
    """The modules right within a package, sorted, without importing it."""
    return sorted(path.stem for path in _source(package).parent.glob("*.py") if path.stem != "__init__")


def defined(module: str) -> list[str]:
    """The functions that a module defines, without importing it."""
    return [node.name for node in _tree(module).body if isinstance(node, ast.FunctionDef)]


def keys(module: str, table: str) -> list[str]:
    """The keys of a dictionary that a module defines under that name, without importing it."""
    for node in _tree(module).body:
        target = node.targets[0] if isinstance(node, ast.Assign) else getattr(node, "target", None)
        if (
            isinstance(target, ast.Name)
            and target.id == table
            and isinstance(value := getattr(node, "value", None), ast.Dict)
        ):
            return [key.value for key in value.keys if isinstance(key, ast.Constant) and isinstance(key.value, str)]
    raise KeyError(f"{module} defines no dictionary {table}")


@cache
def _graph() -> grimp.ImportGraph:
    # What is imported under TYPE_CHECKING is for type checkers: no result depends on it.
    return grimp.build_graph(PACKAGE, exclude_type_checking_imports=True, cache_dir=None)


@cache
def _tree(module: str) -> ast.Module:
    return ast.parse(_source(module).read_text(encoding="utf-8"))


@cache
def _code_hash(module: str) -> str:
    return code_hash(_source(module).read_text(encoding="utf-8"))


def _source(module: str) -> Path:
    path = ROOT.joinpath(*module.split(".")[1:])
    return path / "__init__.py" if path.is_dir() else path.with_suffix(".py")


def code_hash(source: str) -> str:
    """SHA-256 of the code's syntax tree without docstrings and what only type checkers see (comments and layout are not
    in the tree)."""
    return hashlib.sha256(_canonical(ast.parse(source)).encode()).hexdigest()


def _canonical(node: object) -> str:
    """The tree as text. Not `ast.dump`: that changes between Python versions, and names must not."""
    if isinstance(node, list):
        return "[" + ",".join(map(_canonical, _at_run_time(node))) + "]"
    if not isinstance(node, ast.AST):
        return repr(node)
    fields = {name: value for name, value in ast.iter_fields(node) if value is not None and value != []}
    if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
        fields["body"] = node.body[1:] if ast.get_docstring(node, clean=False) is not None else node.body
    inner = ",".join(f"{name}={_canonical(value)}" for name, value in sorted(fields.items()))
    return f"{type(node).__name__}({inner})"


def _at_run_time(nodes: Iterable[object]) -> Iterator[object]:
    """Without the bodies of `if TYPE_CHECKING:` and the import of that name: no result depends on them."""
    for node in nodes:
        match node:
            case ast.If(test=ast.Name(id=name) | ast.Attribute(attr=name)) if name == _TYPE_CHECKING:
                yield from _at_run_time(node.orelse)
            case ast.ImportFrom(names=[ast.alias(name=name)]) | ast.alias(name=name) if name == _TYPE_CHECKING:
                pass
            case _:
                yield node
