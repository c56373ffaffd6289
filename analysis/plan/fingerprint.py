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
from collections.abc import Iterable, Mapping
from itertools import groupby
from pathlib import Path

from analysis.plan.scopes import LOGGER, Project, Reference, Scope, at_run_time

PACKAGES = ("analysis", "sharpflat")  # of the project, where they exist
BY_VALUE = ("analysis.specs",)  # hashed as the values themselves, see analysis.plan.names
ROOT = next(folder for folder in Path(__file__).resolve().parents if (folder / PACKAGES[0] / "__init__.py").is_file())

_METHODS = ("debug", "info", "warning", "error", "exception", "critical", "log")
WORDS = "analysis.store.words:Words"  # what a dataset says about itself
_MESSAGES = {"warnings.warn", WORDS, *(f"{logger}.{method}" for logger in ("logging", LOGGER) for method in _METHODS)}
_FIELD_KINDS = ("ClassVar", "InitVar", "KW_ONLY")  # annotations that decide what a dataclass makes of a name
_UNCOUNTED = {"ctx", "annotation", "returns", "type_comment"}

_Function = ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda
_Comprehension = ast.ListComp | ast.SetComp | ast.DictComp | ast.GeneratorExp


class _Node:
    """A definition as text, with references in place of hashes, and the modules that it imports when it runs."""

    def __init__(self, parts: Iterable[str], modules: Iterable[str] = ()) -> None:
        self.parts: list[str] = []
        for kind, run in groupby(parts, type):
            pieces = list(run)
            self.parts += pieces if kind is Reference else ["".join(pieces)]
        self.references = [part for part in self.parts if isinstance(part, Reference)]
        self.modules = modules

    def text(self, hashes: Mapping[str, str]) -> str:
        return "".join(hashes[part] if isinstance(part, Reference) else part for part in self.parts)


class _Writer(ast.NodeVisitor):
    """Writes statements of a module's top level as canonical text.

    It does not use `ast.dump`, whose output differs between Python versions.
    """

    def __init__(self, project: Project, module: str, own: str = "") -> None:
        self.parts: list[str] = []
        self.modules: set[str] = set()
        self._project, self._module, self._own = project, module, own
        self._package = project.module(module).package
        self._scopes: list[Scope] = []

    def write(self, value: object) -> None:
        """Write a node, a list of nodes, or a plain value."""
        if isinstance(value, ast.AST):
            self.visit(value)
        elif isinstance(value, list):
            self.parts.append("[")
            for item in at_run_time(value):
                before = len(self.parts)
                self.write(item)
                self.parts += [","] * (len(self.parts) > before)  # of imports, mostly, there is nothing to write
            self.parts.append("]")
        else:
            self.parts.append(repr(value))

    def generic_visit(self, node: ast.AST, without: Iterable[str] = _UNCOUNTED) -> None:
        self.parts.append(f"{type(node).__name__}(")
        for name in sorted(node._fields):
            value = getattr(node, name, None)
            if name not in without and value is not None and value != []:
                self.parts.append(f"{name}=")
                self.write(value)
                self.parts.append(";")
        self.parts.append(")")

    def visit_Constant(self, node: ast.Constant) -> None:
        self.parts.append(f"Constant({node.value!r})")

    # ---------------------------------------------------------------- names
    def visit_Name(self, node: ast.Name) -> None:
        found = None
        if isinstance(node.ctx, ast.Load) or (self._scopes and node.id in self._scopes[-1].global_names):
            found = self._lookup(node.id)
            if found is None:
                self.parts.append(f"Name({node.id})")
            else:
                self._put(found)
        else:
            self.parts.append(f"Name({self._naming(node.id)})")

    def visit_Attribute(self, node: ast.Attribute) -> None:
        if (found := self._find(node)) is None:
            self.generic_visit(node)
        else:
            self._put(found)

    def _naming(self, name: str) -> str:
        """A name that is bound. A definition does not include its own name, nor the names of the definitions next to
        it."""
        return name if self._scopes else "<own>" if name == self._own else "<other>"

    def _lookup(self, name: str) -> str | None:
        """What a name refers to, if a definition or an import binds it and no local variable does."""
        for inner, scope in enumerate(reversed(self._scopes)):
            if scope.of_class and inner:
                continue
            if name in scope.global_names:
                break
            if (target := scope.imported(name)) is not None:
                return self._project.target(target)
            if name in scope.names:
                return None
        return self._project.find(self._module, name, inside=True)

    def _find(self, node: ast.expr) -> str | None:
        """What an expression refers to, if only definitions and imports determine it."""
        match node:
            case ast.Name(id=name):
                return self._lookup(name)
            case ast.Attribute(value=value, attr=attr):
                base = self._find(value)
                if isinstance(base, Reference):
                    return None if ":" in base else self._project.find(base, attr)
                return base and f"{base}.{attr}"
            case ast.Call(func=ast.Name() | ast.Attribute() as function, args=arguments):
                match self._find(function), arguments:
                    case "logging.getLogger", _:
                        return LOGGER
                    case "importlib.import_module", [ast.Constant(value=str(name))] if name in self._project:
                        return Reference(name)
        return None

    def _put(self, found: str) -> None:
        if isinstance(found, Reference):
            self.parts += ["@", found]
        else:
            self.parts.append(f"Import({found})")

    # ---------------------------------------------------------------- what counts in part
    def visit_Call(self, node: ast.Call) -> None:
        if (found := self._find(node)) is not None:
            self._put(found)
        elif self._find(node.func) in _MESSAGES:
            self.generic_visit(node, without={"args", "keywords"})
        else:
            self.generic_visit(node)

    def visit_Raise(self, node: ast.Raise) -> None:
        self.parts.append("Raise(")
        for raised in (node.exc, node.cause):
            self.write(raised.func if isinstance(raised, ast.Call) else raised)
            self.parts.append(",")
        self.parts.append(")")

    def visit_AnnAssign(self, node: ast.AnnAssign) -> None:
        if self._scopes and self._scopes[-1].of_class:  # a field, perhaps
            mentioned = ast.unparse(node.annotation)
            self.parts.append(f"Field({','.join(kind for kind in _FIELD_KINDS if kind in mentioned)};")
            self.write([node.target, node.value])
            self.parts.append(")")
        elif node.value is not None:
            self.visit(ast.Assign(targets=[node.target], value=node.value))

    def visit_Import(self, node: ast.Import | ast.ImportFrom) -> None:
        """Writes an import only if its uses do not identify it, as for names in classes and names bound in several
        ways."""
        bound = Scope(self._package, [node])
        self.modules |= bound.modules
        for name, target in bound.imports.items():
            if not self._scopes or self._scopes[-1].of_class or self._scopes[-1].imported(name) is None:
                self.parts.append(f"{self._naming(name)}:")
                self._put(self._project.target(target))

    visit_ImportFrom = visit_Import

    # ---------------------------------------------------------------- scopes
    def visit_FunctionDef(self, node: _Function) -> None:
        self.parts.append(f"{type(node).__name__}({self._naming(getattr(node, 'name', ''))}")
        self.write([*getattr(node, "decorator_list", ()), node.args])
        body = [node.body] if isinstance(node, ast.Lambda) else node.body
        names = [inner.arg for inner in ast.walk(node.args) if isinstance(inner, ast.arg)]
        self._scopes.append(Scope(self._package, body, names))
        self.write(body)
        self._scopes.pop()
        self.parts.append(")")

    visit_AsyncFunctionDef = visit_Lambda = visit_FunctionDef

    def visit_ClassDef(self, node: ast.ClassDef) -> None:
        self.parts.append(f"ClassDef({self._naming(node.name)}")
        self.write([*node.decorator_list, *node.bases, *node.keywords])
        self._scopes.append(scope := Scope(self._package, of_class=True))
        for statement in at_run_time(node.body):
            self.write([statement])
            scope.add([statement])  # afterwards: until then the name is another's
        self._scopes.pop()
        self.parts.append(")")

    def visit_ListComp(self, node: _Comprehension) -> None:
        self.parts.append(f"{type(node).__name__}(")
        self.write(node.generators[0].iter)  # evaluated outside
        targets = [inner for generator in node.generators for inner in ast.walk(generator.target)]
        names = (inner.id for inner in targets if isinstance(inner, ast.Name))
        self._scopes.append(Scope(self._package, names=names))
        self.write([getattr(node, name) for name in node._fields if name != "generators"])
        for number, generator in enumerate(node.generators):
            self.write([generator.target, generator.ifs, generator.is_async, generator.iter if number else None])
        self._scopes.pop()
        self.parts.append(")")

    visit_SetComp = visit_DictComp = visit_GeneratorExp = visit_ListComp


class Code:
    """The code of some packages below a folder, each module parsed and each definition hashed at most once."""

    def __init__(self, root: Path, packages: Iterable[str] = PACKAGES, by_value: Iterable[str] = BY_VALUE) -> None:
        self.project, self.by_value = Project(root, packages), tuple(by_value)
        self._nodes: dict[str, _Node] = {}
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

    def _node(self, key: Reference) -> _Node:
        if key not in self._nodes:
            self._nodes[key] = self._written(key)
        return self._nodes[key]

    def _written(self, key: Reference) -> _Node:
        if self._is_by_value(key.module):
            return _Node(["<by value>"])
        module, name = self.project.module(key.module), key.partition(":")[2]
        if "#" in key:
            statements = [module.effects[int(key.partition("#")[2])]]
        elif not name:
            return self._whole(key)
        elif name in module.definitions:
            statements = module.definitions[name]
        else:
            return self._asked_for(key.module, name)
        writer = _Writer(self.project, key.module, own=name)
        writer.write(statements)
        return _Node(writer.parts, writer.modules)

    def _whole(self, key: Reference) -> _Node:
        """Everything that a module defines, with the names, and everything that a package's `__init__` re-exports."""
        module = self.project.module(key)
        names = sorted(module.definitions.keys() | (module.imports.keys() if module.is_package else ()))
        found = ((name, self.project.find(key, name, inside=True)) for name in names)
        parts: list[str] = []
        for name, what in found:
            if isinstance(what, Reference):
                parts += [f"{name}=", what, ";"]
        return _Node(parts)

    def _asked_for(self, module: str, name: str) -> _Node:
        """A name that a module does not define. Its `__getattr__` decides what it is; without one, it may be anything
        in it."""
        source = self.project.module(module)
        if "__getattr__" not in source.definitions:
            return _Node([f"{name} of ", Reference(module)])
        target = source.typed.get(name)
        shown = [] if target is None else [self.project.target(target)]
        return _Node([f"{name} by ", Reference(f"{module}:__getattr__"), *shown])

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
