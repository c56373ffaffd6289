"""Definitions as the text that `analysis.plan.fingerprint` hashes: what counts of a syntax tree, and what does not."""

from __future__ import annotations

import ast
from collections.abc import Iterable, Mapping
from itertools import groupby

from analysis.plan.scopes import LOGGER, Project, Reference, Scope, at_run_time

_METHODS = ("debug", "info", "warning", "error", "exception", "critical", "log")
WORDS = "analysis.store.words:Words"  # what a dataset says about itself
_MESSAGES = {"warnings.warn", WORDS, *(f"{logger}.{method}" for logger in ("logging", LOGGER) for method in _METHODS)}
_FIELD_KINDS = ("ClassVar", "InitVar", "KW_ONLY")  # annotations that decide what a dataclass makes of a name
_UNCOUNTED = {"ctx", "annotation", "returns", "type_comment"}

_Function = ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda
_Comprehension = ast.ListComp | ast.SetComp | ast.DictComp | ast.GeneratorExp


class Definition:
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


class Writer(ast.NodeVisitor):
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
