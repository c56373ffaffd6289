"""JSON schemas of the configuration files, for editors and for the reference page (docs/site/pages.py)."""

from __future__ import annotations

import json
from typing import Any

from analysis.plan.config import Experiments, Profile, rule_numbers, some_of
from analysis.specs import Frozen, ModelNumbers
from analysis.specs.kinds import MODELS, RULES, kinds, numbers_of

FILES: dict[str, type[Frozen]] = {"schema.json": Profile, "schema-experiments.json": Experiments}  # next to the YAML


def schema_text(file: str) -> str:
    """The content of one of `FILES`."""
    schema = FILES[file].model_json_schema()
    if file == "schema.json":
        settings, segments = (schema["$defs"][name]["properties"] for name in ("SettingNumbers", "SegmentNumbers"))
        settings["model"] |= _one_of({kind: some_of(numbers_of(MODELS, kind), ModelNumbers) for kind in kinds(MODELS)})
        segments["rule"] |= _one_of({kind: rule_numbers(kind) for kind in kinds(RULES)})
    return json.dumps(_plain(schema), indent=1, ensure_ascii=False) + "\n"


def _one_of(models: dict[str, Any]) -> dict[str, Any]:
    return {"anyOf": [_alone(model.model_json_schema()) | {"title": kind} for kind, model in models.items()]}


def _alone(schema: dict[str, Any]) -> dict[str, Any]:
    """The schema without its own definitions. A reference to one becomes any object (a model of a model)."""
    schema.pop("$defs", None)
    for entry in schema["properties"].values():
        if "$ref" in entry:
            del entry["$ref"]
            entry["type"] = "object"
    return schema


def _plain(schema: Any) -> Any:
    """The schema without what no reader needs: titles made from keys, and empty defaults."""
    if isinstance(schema, list):
        return [_plain(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    idle = set()
    if isinstance(schema.get("title"), str) and "properties" not in schema:
        idle.add("title")
    if "default" in schema and _says_nothing(schema["default"]):
        idle.add("default")
    return {key: _plain(value) for key, value in schema.items() if key not in idle}


def _says_nothing(default: object) -> bool:
    return default is None or (isinstance(default, dict) and all(map(_says_nothing, default.values())))
