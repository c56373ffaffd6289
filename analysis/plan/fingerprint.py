"""Code fingerprints: Merkle hashes over syntax trees, computed for each definition.

Each name of a function, class or constant of the project is replaced by the hash of its definition, wherever it comes
from. The fingerprint ignores the place and the name of a definition, comments, docstrings, annotations and code that
only type checkers see. It also ignores the arguments of `raise`, of logging, of `warnings.warn` and of a dataset's
`Words`.

Dynamic code is covered as follows:

- A module may be imported under a name made at run time (models, update rules, figures, sources of data). The code that
  makes the name passes the module's definition as a further entry. Under a literal name it is an ordinary import.
- A package may import lazily with `__getattr__`. A name that is requested from it counts as that function, and as the
  object that the package imports under that name for type checkers.
- If a module is used as a value, or an attribute of it is not defined there, everything that the module defines counts.
- Statements that act when a module is imported (for example, filling another module's table) count wherever the module
  is imported. They include functions and classes with decorators of the project, since a decorator may register them.
- For an attribute of an object (`getattr(state, name)`), its class counts, because the code that makes the object
  refers to it.

The following is not covered: `exec`, `globals()`, a call in an assignment or a base class that registers something
elsewhere, and annotations that code reads (pydantic's), except for those that make dataclasses.
"""

from __future__ import annotations

import ast
import hashlib
from collections import ChainMap
from collections.abc import Iterable
from pathlib import Path

from analysis.plan.definitions import Definition, Writer
from analysis.plan.scopes import Project, Reference

PACKAGES = ("analysis", "sharpflat")  # of the project, where they exist
BY_VALUE = ("analysis.specs",)  # hashed as the values themselves, see analysis.plan.names
ROOT = next(folder for folder in Path(__file__).resolve().parents if (folder / PACKAGES[0] / "__init__.py").is_file())


class Code:
    """The code of some packages below a folder, each module parsed and each definition hashed at most once."""

    def __init__(self, root: Path, packages: Iterable[str] = PACKAGES, by_value: Iterable[str] = BY_VALUE) -> None:
        self.project, self.by_value = Project(root, packages), tuple(by_value)
        self._nodes: dict[str, Definition] = {}
        self._hashes: dict[str, str] = {}
        self._fingerprints: dict[tuple[str, ...], str] = {}

    # ---------------------------------------------------------------- fingerprints
    def fingerprint(self, *entries: str) -> str:
        """See the function `fingerprint`."""
        if entries not in self._fingerprints:
            effects = sorted(self._hash(key) for key in self._reached(entries) if "#" in key)
            hashes = [*(self._hash(self._entry(entry)) for entry in entries), "", *effects]
            self._fingerprints[entries] = _sha256("\n".join(hashes))[:16]
        return self._fingerprints[entries]

    def reached(self, entries: Iterable[str]) -> frozenset[str]:
        """See the function `reached`."""
        return frozenset(str(key) for key in self._reached(entries) if ":" in key and not self._is_by_value(key.module))

    def _reached(self, entries: Iterable[str]) -> set[Reference]:
        found: set[Reference] = set()
        imported: set[str] = set()
        todo = [self._entry(entry) for entry in entries]
        while todo:
            key = todo.pop()
            if key in found:
                continue
            found.add(key)
            node = self._node(key)
            todo += node.references
            loaded = [key.module, *node.modules]
            while loaded:
                name = loaded.pop()
                if name in imported or name not in self.project or self._is_by_value(name):
                    continue
                imported.add(name)
                module = self.project.module(name)
                loaded += [name.rpartition(".")[0], *module.modules]
                todo += [Reference(f"{name}#{number}") for number in range(len(module.effects))]
        return found

    def _entry(self, entry: str) -> Reference:
        module, _, name = entry.partition(":")
        if module not in self.project:
            raise KeyError(f"{module} is no module of the packages {', '.join(self.project.packages)}")
        found = self.project.find(module, name, inside=True) if name else Reference(module)
        if not isinstance(found, Reference):
            raise KeyError(f"{module} defines no {name} to hash")
        return found

    def _hash(self, key: Reference) -> str:
        if key not in self._hashes:
            self._connect(key, {}, [])
        return self._hashes[key]

    def _connect(self, key: Reference, numbers: dict[str, int], open_keys: list[Reference]) -> int:
        """Hashes what `key` refers to, and then `key` together with what refers back to it (Tarjan's algorithm)."""
        number = lowest = numbers[key] = len(numbers)
        open_keys.append(key)
        for other in self._node(key).references:
            if other not in self._hashes:
                back = numbers[other] if other in numbers else self._connect(other, numbers, open_keys)
                lowest = min(lowest, back)
        if lowest == number:
            members = open_keys[open_keys.index(key) :]
            del open_keys[-len(members) :]
            inner: dict[str, str] = dict.fromkeys(members, "")
            for _ in range(len(members) + 1):  # in each round what they refer to is compared one reference further
                known = ChainMap(inner, self._hashes)
                inner = {member: _sha256(self._node(member).text(known)) for member in members}
            self._hashes |= inner
        return lowest

    def _node(self, key: Reference) -> Definition:
        if key not in self._nodes:
            self._nodes[key] = self._written(key)
        return self._nodes[key]

    def _written(self, key: Reference) -> Definition:
        if self._is_by_value(key.module):
            return Definition(["<by value>"])
        module, name = self.project.module(key.module), key.partition(":")[2]
        if "#" in key:
            statements = [module.effects[int(key.partition("#")[2])]]
        elif not name:
            return self._whole(key)
        elif name in module.definitions:
            statements = module.definitions[name]
        else:
            return self._asked_for(key.module, name)
        writer = Writer(self.project, key.module, own=name)
        writer.write(statements)
        return Definition(writer.parts, writer.modules)

    def _whole(self, key: Reference) -> Definition:
        """Everything that a module defines, with the names, and everything that a package's `__init__` re-exports."""
        module = self.project.module(key)
        names = sorted(module.definitions.keys() | (module.imports.keys() if module.is_package else ()))
        found = ((name, self.project.find(key, name, inside=True)) for name in names)
        parts: list[str] = []
        for name, what in found:
            if isinstance(what, Reference):
                parts += [f"{name}=", what, ";"]
        return Definition(parts)

    def _asked_for(self, module: str, name: str) -> Definition:
        """A name that a module does not define. Its `__getattr__` decides what it is; without one, it may be anything
        in it."""
        source = self.project.module(module)
        if "__getattr__" not in source.definitions:
            return Definition([f"{name} of ", Reference(module)])
        target = source.typed.get(name)
        shown = [] if target is None else [self.project.target(target)]
        return Definition([f"{name} by ", Reference(f"{module}:__getattr__"), *shown])

    def _is_by_value(self, module: str) -> bool:
        return any(f"{module}.".startswith(f"{prefix}.") for prefix in self.by_value)


_CODE = Code(ROOT)


def fingerprint(*entries: str) -> str:
    """Sixteen hex digits over the code of `entries`, in their order, and of everything that they reach.

    Args:
        entries: definitions, as in "analysis.claims:judge", or modules. A module counts with all its definitions and
            their names.

    Raises:
        KeyError: there is no such module or definition.
    """
    return _CODE.fingerprint(*entries)


def reread() -> None:
    """Forgets the files that were read, so that the next fingerprint uses the current ones."""
    global _CODE
    _CODE = Code(ROOT)


def reached(entries: Iterable[str]) -> frozenset[str]:
    """The definitions that determine the fingerprint of `entries`, as "module:name"."""
    return _CODE.reached(entries)


def submodules(package: str) -> list[str]:
    """The modules directly in a package, sorted, without importing it."""
    return sorted(p.stem for p in ROOT.joinpath(*package.split(".")).glob("*.py") if p.stem != "__init__")


def defined(module: str) -> list[str]:
    """The functions that a module defines, without importing it."""
    return [node.name for node in _CODE.project.module(module).tree.body if isinstance(node, ast.FunctionDef)]


def keys(module: str, table: str) -> list[str]:
    """The keys of a dictionary that a module defines under that name, without importing it."""
    for node in _CODE.project.module(module).definitions.get(table, ()):
        if isinstance(value := getattr(node, "value", None), ast.Dict):
            return [key.value for key in value.keys if isinstance(key, ast.Constant) and isinstance(key.value, str)]
    raise KeyError(f"{module} defines no dictionary {table}")


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
