"""Reads YAML strictly as a pydantic model, and explains mistakes with suggestions."""

from __future__ import annotations

import difflib
import reprlib
from pathlib import Path
from typing import Annotated, Any, TypeVar, get_args, get_origin

import yaml
from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from sharpflat.errors import InputError

M = TypeVar("M", bound=BaseModel)


def read(path: Path, model: type[M]) -> M:
    """The file as `model`.

    Raises:
        InputError: the file has mistakes. Each has one line: file, path of the key, what was found, what is allowed.
    """
    return validate(load_yaml(path), model, str(path))


def load_yaml(path: Path) -> Any:
    """The content of the file as plain mappings, lists and scalars. Duplicate keys are refused."""
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from error
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: is not UTF-8 text (byte {error.start})") from error
    try:
        return yaml.load(text, Loader=_StrictLoader)
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        raise InputError(f"{path}:{line}: is not valid YAML: {error.reason}") from error
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = f"{path}:{mark.line + 1}:{mark.column + 1}" if mark else str(path)
        raise InputError(f"{where}: is not valid YAML: {error.problem}") from error
    except RecursionError:
        raise InputError(f"{path}: is nested too deeply") from None


def validate(content: Any, model: type[M], where: str, key: str = "") -> M:
    """`content`, which is at `key`, as `model`. Each line of the error begins with `where`."""
    try:
        return model.model_validate(content)
    except ValidationError as error:
        lines = [_explain(detail, model, content, key) for detail in error.errors()]
        raise InputError("\n".join(f"{where}: {line}" for line in lines)) from None


class _StrictLoader(yaml.SafeLoader):
    """A SafeLoader that refuses a key given twice (YAML would silently keep the last) and every value that is not
    plain. Of SafeLoader's tags, it accepts only those that a value has without naming one."""

    yaml_constructors = {  # noqa: RUF012 (as in the base class)
        tag: construct
        for tag, construct in yaml.SafeLoader.yaml_constructors.items()
        if tag is None or tag.rpartition(":")[2] in {"null", "bool", "int", "float", "timestamp", "str", "seq", "map"}
    }

    def flatten_mapping(self, node: yaml.MappingNode) -> None:
        """Includes what `<<` names. It is called before a mapping is constructed, and again for each mapping that
        includes it."""
        keys: dict[Any, tuple[yaml.Node, yaml.Node]] = {}
        for key, value in node.value:
            if keys.setdefault(_identity(key), (key, value)) != (key, value):
                raise yaml.constructor.ConstructorError(
                    None, None, f'key "{_printable(str(key.value))}" is given twice', key.start_mark
                )
        super().flatten_mapping(node)
        # Overridden keys are dropped, because merges of merges would grow without bound.
        node.value = list({_identity(key): (key, value) for key, value in node.value}.values())

    def construct_object(self, node: yaml.Node, deep: bool = False) -> Any:
        try:
            return super().construct_object(node, deep)
        except (ValueError, ArithmeticError, LookupError, AttributeError) as error:  # an impossible date; !!int ""
            kind = node.tag.rpartition(":")[2]
            message = f"found {_Shortened().repr(node.value)}; cannot be read as {kind}: {error}"
            raise yaml.constructor.ConstructorError(None, None, message, node.start_mark) from error


def _identity(key: yaml.Node) -> object:
    return key.value if isinstance(key, yaml.ScalarNode) else id(key)


class _Shortened(reprlib.Repr):
    """A value of limited length, because aliases can make an endless one."""

    def __init__(self) -> None:
        super().__init__()
        self.maxstring = self.maxother = 100

    def repr_int(self, x: int, level: int) -> str:
        return super().repr_int(x, level) if x.bit_length() < 1000 else f"an integer of {x.bit_length()} bits"


def _explain(detail: ErrorDetails, model: type[BaseModel], content: Any, key: str) -> str:
    place = [_printable(str(part)) for part in detail["loc"] if part != "[key]"]
    if detail["type"] != "missing":
        place = place[: _depth(detail["loc"], content)]
    path = ".".join([*([key] if key else []), *place]) or "(the file)"
    found = detail["input"]
    if detail["type"] == "extra_forbidden":
        allowed = allowed_keys(model, detail["loc"][:-1])
        return f"{path}: unknown key{suggest(place[-1], allowed)}"
    if detail["type"] == "missing":
        return f"{path}: missing; it has to be given"
    shown = _printable(_Shortened().repr(found))
    message = _KINDS.get(detail["type"], detail["msg"][0].lower() + detail["msg"][1:])
    return f"{path}: found {shown}; {message}"


# YAML's names for types that the models call by Python's names.
_KINDS = {
    **dict.fromkeys(("tuple_type", "list_type", "set_type", "frozen_set_type"), "input should be a list"),
    **dict.fromkeys(("dict_type", "model_type", "model_attributes_type", "mapping_type"), "input should be a mapping"),
    "string_type": "input should be text",
    "bool_type": "input should be true or false",
}


def _depth(location: tuple[Any, ...], content: Any) -> int:
    """How many parts of a location the content has. A single number can replace a mapping (`with_every`)."""
    for depth, part in enumerate(location):
        if not isinstance(content, dict | list):
            return depth
        try:
            content = content[part]
        except (LookupError, TypeError):  # there is a list instead of a mapping
            break
    return len(location)


def _printable(text: str) -> str:
    """The text on one line, and not too long."""
    shown = text if text.isprintable() else repr(text)[1:-1]
    return shown if len(shown) <= 80 else shown[:77] + "..."


def suggest(found: str, allowed: list[str]) -> str:
    """'; did you mean "width"? Allowed: …', or only the allowed names."""
    close = difflib.get_close_matches(found, allowed, n=1)
    hint = f'; did you mean "{close[0]}"?' if close else ";"
    return f"{hint} allowed: {', '.join(allowed) or 'nothing'}"


def allowed_keys(model: type[BaseModel], location: tuple[int | str, ...]) -> list[str]:
    """The keys of the model at `location` below `model`."""
    current: Any = model
    for part in location:
        if isinstance(current, type) and issubclass(current, BaseModel):
            current = current.model_fields[str(part)].annotation
        else:  # dict[Name, Something], tuple[Something, ...], Something | None
            current = _inner(current)
        current = _unwrap(current)
    fields = current.model_fields if isinstance(current, type) and issubclass(current, BaseModel) else {}
    return [name for name in fields if name != "kind"]  # kinds are chosen by other keys


def _inner(annotation: Any) -> Any:
    arguments = [a for a in get_args(annotation) if a not in (type(None), Ellipsis)]
    return arguments[-1] if arguments else None


def _unwrap(annotation: Any) -> Any:
    while True:
        if get_origin(annotation) is Annotated:
            annotation = get_args(annotation)[0]
        arguments = [get_args(a)[0] if get_origin(a) is Annotated else a for a in get_args(annotation)]
        models = [a for a in arguments if isinstance(a, type) and issubclass(a, BaseModel)]
        if type(None) in arguments and models:
            annotation = models[0]
        else:
            return annotation
