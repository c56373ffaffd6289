"""The JSON schemas of the configuration: current and complete, and the files that there are fit them."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import jsonschema
import pytest

from analysis.plan.join import CONFIG_DIR
from analysis.plan.schema import FILES, schema_text
from analysis.plan.yaml import load_yaml

SCHEMAS = {file: json.loads(schema_text(file)) for file in FILES}
CONFIGURATIONS = sorted(CONFIG_DIR.glob("*.yaml"))


@pytest.mark.parametrize("file", FILES)
def test_the_schema_is_of_the_present_models(file):
    assert (CONFIG_DIR / file).read_text(encoding="utf-8") == schema_text(file), "run `make schema`"


def keys(schema: Any, at: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """All keys below a part of a schema, with what it says of each."""
    if isinstance(schema, list):
        for item in schema:
            yield from keys(item, at)
    elif isinstance(schema, dict):
        for key, entry in schema.get("properties", {}).items():
            yield f"{at}.{key}", entry
        for part, inner in schema.items():
            yield from keys(inner, f"{at}.{part}")


def lacking(key: str, entry: dict[str, Any]) -> str | None:
    if not entry.get("description"):
        return f"{key}: Annotated[…, Field(description=…)] in its model"
    has_number = any(f'"type": "{kind}"' in json.dumps(entry) for kind in ("integer", "number"))
    of_a_kind = re.search(r"\.(model|rule)$", key)  # whose own keys have units
    if has_number and not of_a_kind and not re.search(r" \[[a-z1]+\]$", entry["description"]):
        return f"{key}: a unit at the end of its description, as in [steps]; [1] for a pure number"
    return None


def test_each_key_has_a_description_and_each_number_a_unit():
    found = [entry for file in FILES for entry in keys(SCHEMAS[file], file)]
    assert len(found) > 100
    assert [lack for lack in (lacking(*entry) for entry in found) if lack] == []


def plain(content: Any) -> Any:
    """As YAML 1.2 and editors read it, where 1e-3 is a number."""
    if isinstance(content, dict):
        return {key: plain(value) for key, value in content.items()}
    if isinstance(content, list):
        return [plain(item) for item in content]
    is_number = isinstance(content, str) and re.fullmatch(r"[\d.]+e-?\d+", content)
    return float(content) if is_number else content


@pytest.mark.parametrize("path", CONFIGURATIONS, ids=lambda path: path.name)
def test_the_configuration_names_its_schema_and_fits_it(path):
    first = path.read_text(encoding="utf-8").partition("\n")[0]
    schema = re.fullmatch(r"# yaml-language-server: \$schema=(\S+)", first).group(1)
    assert schema == ("schema-experiments.json" if path.name == "experiments.yaml" else "schema.json")
    jsonschema.validate(plain(load_yaml(path)), SCHEMAS[schema])


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("settings", "mlp", "learning_rat"), 0.1),
        (("settings", "mlp", "model", "widht"), 3),
        (("settings", "mlp", "probes", "loss"), 0),
        (("settings", "mlp", "refresh_overlap"), 1),
        (("settings", "mlp", "segments", "sam", "rule", "rho"), "large"),
    ],
)
def test_editors_see_mistakes(path, value):
    content = plain(load_yaml(CONFIG_DIR / "quick.yaml"))
    at = content
    for key in path[:-1]:
        at = at[key]
    at[path[-1]] = value
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(content, SCHEMAS["schema.json"])
