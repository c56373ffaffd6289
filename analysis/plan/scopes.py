"""What the names in a module's source text are (imports, definitions, local variables), without importing it."""

from __future__ import annotations

import ast
from collections import defaultdict
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

LOGGER = "<logger>"


class Reference(str):
    """An object of the project: "module:name", "module" for all of it, "module#number" for what its import does."""

    __slots__ = ()

    @property
    def module(self) -> str:
        return self.partition(":")[0].partition("#")[0]


class Target(NamedTuple):
    """The target of an import: a module, or a name in it."""

    module: str
    name: str = ""


class Scope:
    """The names that statements bind, without those that functions, classes and comprehensions bind internally.

    Attributes:
        names: names that are bound in another way than by a single import.
        imports: by name, see `imported`.
        global_names: names that `global` declares.
        modules: all modules that the imports load.
        acts: whether a statement does something besides binding names.
        of_class: whether this is the body of a class, whose names its methods do not see.
    """

    def __init__(
        self, package: str, nodes: Iterable[ast.AST] = (), names: Iterable[str] = (), of_class: bool = False
    ) -> None:
        self.package, self.names, self.of_class, self.acts = package, set(names), of_class, False
        self.imports: dict[str, Target] = {}
        self.global_names: set[str] = set()
        self.modules: set[str] = set()
        self.add(nodes)

    def add(self, nodes: Iterable[ast.AST]) -> None:
        outer: set[str] = set()
        todo = list(nodes)
        while todo:
            node = todo.pop()
            match node:
                case ast.Name(id=name):
                    if not isinstance(node.ctx, ast.Load):
                        self.names.add(name)
                case ast.FunctionDef() | ast.AsyncFunctionDef():
                    self.names.add(node.name)
                    todo += [*node.decorator_list, *_defaults(node)]
                case ast.ClassDef():
                    self.names.add(node.name)
                    todo += [*node.decorator_list, *node.bases, *node.keywords]
                case ast.Lambda():
                    todo += _defaults(node)
                case ast.ListComp() | ast.SetComp() | ast.DictComp() | ast.GeneratorExp():
                    walruses = [inner for inner in ast.walk(node) if isinstance(inner, ast.NamedExpr)]
                    self.names.update(walrus.target.id for walrus in walruses)
                case ast.Import() | ast.ImportFrom():
                    self._import(node)
                case ast.Global(names=names):
                    self.global_names.update(names)
                case ast.Nonlocal(names=names):
                    outer.update(names)
                case ast.If():
                    run = list(at_run_time([node]))
                    todo += ast.iter_child_nodes(node) if run == [node] else run
                case ast.AnnAssign():
                    todo += [node.target] if node.value is None else [node.target, node.value]
                case _:
                    match node:
                        case ast.ExceptHandler(name=str(name)) | ast.MatchAs(name=str(name)):
                            self.names.add(name)
                        case ast.MatchStar(name=str(name)) | ast.MatchMapping(rest=str(name)):
                            self.names.add(name)
                        case ast.Attribute() | ast.Subscript():
                            self.acts |= not isinstance(node.ctx, ast.Load)
                        case ast.Expr() | ast.Delete() | ast.Assert():
                            self.acts = True
                    todo += ast.iter_child_nodes(node)
        self.names -= outer | self.global_names

    def imported(self, name: str) -> Target | None:
        """The target of the name here, if a single import binds it."""
        return None if name in self.names or name in self.global_names else self.imports.get(name)

    def _import(self, node: ast.Import | ast.ImportFrom) -> None:
        found: list[tuple[str, Target]] = []
        if isinstance(node, ast.Import):
            for alias in node.names:
                first = alias.name.partition(".")[0]
                found.append((alias.asname or first, Target(alias.name if alias.asname else first)))
                self.modules.add(alias.name)
        else:
            above = self.package.split(".")[: 1 - node.level or None] if node.level else []
            module = ".".join([*above, *([node.module] if node.module else [])])
            for alias in node.names:
                found.append((alias.asname or alias.name, Target(module, alias.name)))
                self.modules |= {module, f"{module}.{alias.name}"}
        for name, target in found:
            if self.imports.setdefault(name, target) != target:
                self.names.add(name)


class Module:
    """The statements of a module, sorted by kind.

    Attributes:
        imports: the targets of names that only an import binds.
        typed: imports that only type checkers see.
        definitions: by name, all statements that bind it.
        effects: statements that do something when the module is imported.
        loggers: names of loggers, which the fingerprint ignores.
        modules: the modules that are imported with it.
    """

    def __init__(self, name: str, path: Path, packages: Iterable[str]) -> None:
        self.tree = ast.parse(path.read_text(encoding="utf-8"))
        self.is_package = path.name == "__init__.py"
        self.package = name if self.is_package else name.rpartition(".")[0]
        self.effects: list[ast.stmt] = []
        self.modules: set[str] = set()
        binding, targets = defaultdict[str, list[ast.stmt]](list), defaultdict[str, set[Target | None]](set)
        for statement in at_run_time(self.tree.body):
            scope = Scope(self.package, [statement])
            for target in scope.imports.values():
                if target.name == "*" and target.module.partition(".")[0] in packages:
                    raise ValueError(f"{name}: the star import from {target.module} hides which names it binds")
            self.modules |= scope.modules
            imports = isinstance(statement, ast.Import | ast.ImportFrom)
            names = scope.names | scope.imports.keys()
            changes = isinstance(statement, ast.AugAssign) and any(targets[name] - {None} for name in names)
            if scope.acts or changes or not (names or imports):
                self.effects.append(statement)
            for bound in names:
                binding[bound].append(statement)
                targets[bound].add(scope.imported(bound) if imports else None)
        binding.pop("__all__", None)
        self.imports = {n: t for n, (t, *more) in targets.items() if t is not None and not more}
        self.definitions = {n: statements for n, statements in binding.items() if n not in self.imports}
        self.loggers = {n for n, statements in self.definitions.items() if self._makes_logger(*statements)}
        hidden = (s for s in self.tree.body if isinstance(s, ast.If) and is_type_checking(s.test))
        self.typed = Scope(self.package, (s for block in hidden for s in block.body)).imports
        for statement in at_run_time(self.tree.body):
            if any(self._is_own(decorator, packages) for decorator in getattr(statement, "decorator_list", ())):
                self.effects.append(statement)

    def _makes_logger(self, statement: ast.stmt, *more: ast.stmt) -> bool:
        match statement:
            case ast.Assign(value=ast.Call(func=made)) | ast.AnnAssign(value=ast.Call(func=made)) if not more:
                match made:
                    case ast.Attribute(value=ast.Name(id=name), attr="getLogger"):
                        return self.imports.get(name) == Target("logging")
                    case ast.Name(id=name):
                        return self.imports.get(name) == Target("logging", "getLogger")
        return False

    def _is_own(self, decorator: ast.expr, packages: Iterable[str]) -> bool:
        while isinstance(decorator, ast.Call | ast.Attribute):
            decorator = decorator.func if isinstance(decorator, ast.Call) else decorator.value
        name = decorator.id if isinstance(decorator, ast.Name) else ""
        return name in self.definitions or self.imports.get(name, Target("")).module.partition(".")[0] in packages


class Project:
    """Some packages below a folder, each module parsed at most once.

    Attributes:
        packages: the packages that exist.
    """

    def __init__(self, root: Path, packages: Iterable[str]) -> None:
        self.root = root
        self.packages = tuple(package for package in packages if (root / package).is_dir())
        self._modules: dict[str, Module] = {}
        self._missing: set[str] = set()

    def find(self, module: str, name: str, *, inside: bool = False) -> str | None:
        """What a name in a module refers to.

        Args:
            module: a module of the project.
            name: a name in it.
            inside: whether the name is used in the module's own code. For other code, its submodules are names too,
                and it may have any name.

        Returns:
            A reference to an object of the project, or the full name of an object imported from elsewhere. None if no
            definition or import binds the name (builtins).
        """
        source = self.module(module)
        target = source.imports.get(name)
        if target is not None and target != (module, name):
            return self.target(target)
        if name in source.loggers:
            return LOGGER
        if name in source.definitions:
            return Reference(f"{module}:{name}")
        if (target is not None or not inside) and f"{module}.{name}" in self:
            return Reference(f"{module}.{name}")
        return None if inside else Reference(f"{module}:{name}")

    def target(self, target: Target) -> str:
        """What an import refers to, in the form of `find`."""
        if target.module not in self:
            return ".".join(filter(None, target))
        found = self.find(target.module, target.name) if target.name else None
        return Reference(target.module) if found is None else found

    def module(self, name: str) -> Module:
        """The parsed module. It raises KeyError if there is no module of that name."""
        if name not in self:
            raise KeyError(f"{name} is no module of the packages {', '.join(self.packages)}")
        return self._modules[name]

    def __contains__(self, name: str) -> bool:
        if name not in self._modules and name not in self._missing:
            path = self.root.joinpath(*name.split("."))
            files = [path / "__init__.py", path.parent / f"{path.name}.py"]
            file = next((file for file in files if file.is_file()), None)
            if file is None or name.partition(".")[0] not in self.packages:
                self._missing.add(name)
            else:
                self._modules[name] = Module(name, file, self.packages)
        return name in self._modules


def at_run_time(items: Iterable[Any]) -> Iterator[Any]:
    """The statements (or other items of a list in a syntax tree) that do something when a program imports them.

    Docstrings do nothing, and neither does code that only type checkers see or that only `python -m` runs.
    """
    for item in items:
        match item:
            case ast.If(test=test) if is_type_checking(test) or _is_main(test):
                yield from at_run_time(item.orelse)
            case ast.If(test=ast.UnaryOp(op=ast.Not(), operand=test)) if is_type_checking(test):
                yield from at_run_time(item.body)
            case ast.Expr(value=ast.Constant()):
                pass
            case _:
                yield item


def is_type_checking(test: ast.expr) -> bool:
    match test:
        case ast.Name(id=name) | ast.Attribute(attr=name):
            return name == "TYPE_CHECKING"
    return False


def _is_main(test: ast.expr) -> bool:
    match test:
        case ast.Compare(left=ast.Name(id="__name__"), ops=[ast.Eq()], comparators=[ast.Constant(value="__main__")]):
            return True
    return False


def _defaults(node: ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda) -> list[ast.expr]:
    return [default for default in (*node.args.defaults, *node.args.kw_defaults) if default is not None]
