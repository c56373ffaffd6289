"""Gathers the pages of the documentation site in a folder: those of docs/, and those that are generated.

`python docs/site/pages.py .docs/pages`; `make docs` then builds the site from there (mkdocs.yml).
"""

from __future__ import annotations

import json
import re
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from notebooks import render

from analysis.claims import CLAIMS
from analysis.plan.config import Experiments, Figure
from analysis.plan.join import CONFIG_DIR
from analysis.plan.papers import read_papers
from analysis.plan.schema import FILES, schema_text
from analysis.plan.yaml import read
from analysis.specs.panels import PaperFigure

ROOT = Path(__file__).resolve().parents[2]
DOCS, REDRAWN = ROOT / "docs", ROOT / "results" / "redrawn"
SIZES = {"quick": "quick", "laptop": "full size"}  # archived profiles, as the gallery calls them
FROM_OUTSIDE = {name.lower(): name for name in ("CHANGELOG.md", "CONTRIBUTING.md")}  # pages, and their originals
LINK = re.compile(r"\]\((\.\./[^)#]+|docs/[^)#]+|[A-Z]+\.md)")


def gather(pages: Path) -> None:
    """Write all pages below `pages`, which is emptied first."""
    shutil.rmtree(pages, ignore_errors=True)
    shutil.copytree(DOCS, pages, ignore=shutil.ignore_patterns("*.py", "*.json", "__pycache__", "site"))
    for name in ("extra.css", "iframe-worker.js"):
        shutil.copy(DOCS / "site" / name, pages)
    for page, original in FROM_OUTSIDE.items():
        shutil.copy(ROOT / original, pages / page)
    (pages / "configuration.md").write_text(configuration(), encoding="utf-8")
    (pages / "gallery.md").write_text(gallery(pages / "gallery"), encoding="utf-8")
    for notebook in sorted((ROOT / "examples").glob("*.py")):
        if notebook.read_text(encoding="utf-8").startswith("# %%"):
            render(notebook, pages)
    for path in pages.rglob("*.md"):
        path.write_text(with_links(path, pages), encoding="utf-8")


def with_links(page: Path, pages: Path) -> str:
    """The page's text. What it links to outside docs/ comes along as a file; in pages from outside, docs/ is here."""
    place = page.relative_to(pages)
    folder = ROOT if place.name in FROM_OUTSIDE else (DOCS / place).parent

    def link(match: re.Match[str]) -> str:
        source = (folder / match[1]).resolve()
        if source.is_relative_to(DOCS):
            kept = source.relative_to(DOCS)
        else:
            kept = source.relative_to(ROOT)
            kept = Path(kept.name.lower()) if kept.name in FROM_OUTSIDE.values() else kept
        if source.is_file() and not (pages / kept).exists():
            (pages / kept).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(source, pages / kept)
        return f"]({'../' * (len(place.parts) - 1)}{kept}"

    return LINK.sub(link, page.read_text(encoding="utf-8"))


# ---------------------------------------------------------------- configuration
def configuration() -> str:
    """The reference of the configuration files, from their JSON schemas."""
    text = ["# Configuration", (DOCS / "site" / "configuration.md").read_text(encoding="utf-8")]
    for file, heading in {"schema.json": "A profile", "schema-experiments.json": "experiments.yaml"}.items():
        assert file in FILES
        schema = json.loads(schema_text(file))
        text.append(f"## {heading}")
        text += tables(schema, schema["$defs"], "")
    return "\n\n".join(text) + "\n"


def tables(schema: dict[str, Any], definitions: dict[str, Any], place: str) -> Iterator[str]:
    """A table of the keys of a mapping, then those of the mappings below it."""
    below = []
    rows = ["| key | type | default | unit | meaning |", "| --- | --- | --- | --- | --- |"]
    for key, entry in schema["properties"].items():
        meaning, unit = re.fullmatch(r"(.*?)(?: \[([a-z1]+)\])?", entry["description"]).groups()
        default = "required" if key in schema.get("required", ()) else value(entry.get("default"))
        rows.append(f"| `{key}` | {kind(entry, definitions)} | {default} | {unit or ''} | {meaning} |")
        below += [(f"{place}{key}{more}", mapping) for more, mapping in mappings(entry, definitions)]
    yield schema.get("description", "").replace("\n\n", "\n")
    yield "\n".join(rows)
    for path, mapping in below:
        yield f"### `{path}`"
        yield from tables(mapping, definitions, f"{path}.")


def mappings(entry: dict[str, Any], definitions: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """The mappings that can be a key's value, each with what its path has besides the key."""
    if "$ref" in entry:
        entry = definitions[entry["$ref"].rpartition("/")[2]]
    if entry.get("properties"):
        yield "", entry
    for option in entry.get("anyOf", ()):
        for more, mapping in mappings(option, definitions):
            named = f" ({mapping['title']})" if "title" in option else ""
            yield more + named, mapping
    named_ones = entry.get("additionalProperties") or next(iter(entry.get("patternProperties", {}).values()), None)
    if isinstance(named_ones, dict):
        for more, mapping in mappings(named_ones, definitions):
            yield f".<name>{more}", mapping


def kind(entry: dict[str, Any], definitions: dict[str, Any]) -> str:
    """A value's type and bounds in words."""
    if "$ref" in entry:
        entry = definitions[entry["$ref"].rpartition("/")[2]]
    if "anyOf" in entry:
        options = [kind(option, definitions) for option in entry["anyOf"] if option.get("type") != "null"]
        return " or ".join(dict.fromkeys(options))
    if "enum" in entry:
        return ", ".join(f"`{choice}`" for choice in entry["enum"])
    if entry.get("type") == "array":
        items = entry.get("prefixItems") or [entry["items"]]
        return f"list of {kind(items[0], definitions)}"
    names = {"object": "mapping", "string": "text", "boolean": "`true` or `false`"}
    bounds = {"minimum": "≥", "exclusiveMinimum": ">", "maximum": "≤", "exclusiveMaximum": "<"}
    limits = [f"{sign} {entry[name]:g}" for name, sign in bounds.items() if abs(entry.get(name, 2**31)) < 2**31 - 1]
    return " ".join([names.get(entry.get("type", ""), entry.get("type", "any")), ", ".join(limits)]).strip()


def value(default: object) -> str:
    return "" if default in (None, {}, []) or isinstance(default, dict) else f"`{json.dumps(default)}`"


# ---------------------------------------------------------------- gallery
def gallery(images: Path) -> str:
    """Every figure and table of the papers: what it shows, how it is made, and its image at each size."""
    experiments = read(CONFIG_DIR / "experiments.yaml", Experiments)
    text = ["# Gallery", (DOCS / "site" / "gallery.md").read_text(encoding="utf-8")]
    for paper in read_papers(ROOT / "workflow" / "report" / "papers.yaml"):
        text += [f"## {paper.title}", f"{paper.authors}, {paper.year}."]
        for figure in paper.figures:
            text += [f"### {figure.number} {{ #{figure.id} }}", figure.says.strip()]
            text += [made_from(figure, experiments.figures[figure.id]), drawings(figure.id, images)]
    return "\n\n".join(text) + "\n"


def made_from(published: PaperFigure, figure: Figure) -> str:
    """Name, module, data and claims."""
    runs = ", ".join(f"{label}: `{segment}`" for label, segment in figure.runs.items())
    judged = [f"`{claim}` ({CLAIMS[claim].says})" for claim in published.claims]
    rows = {
        "Name": f"`{published.id}`",
        "Module": f"`analysis/figures/{figure.module.replace('-', '_')}.py`",
        "Data": f"{figure.reads} of {runs}; settings {', '.join(f'`{name}`' for name in figure.settings)}",
        "Claims": f"{'; '.join(judged)}. [Verdicts](results.md)" if judged else "none",
    }
    return "\n".join(f"- **{name}**: {text}" for name, text in rows.items())


def drawings(name: str, images: Path) -> str:
    """A tab for each size."""
    tabs = []
    for profile, size in SIZES.items():
        drawn = REDRAWN / profile / "figures" / f"{name}.png"
        if drawn.exists():
            (images / profile).mkdir(parents=True, exist_ok=True)
            shutil.copy(drawn, images / profile)
            image = f"gallery/{profile}/{name}.png"
            shown = f"[![{name}, {size}]({image}){{ loading=lazy }}]({image})"
        else:
            shown = "Not run at this size yet."
        tabs.append(f'=== "{size}"\n\n    {shown}')
    return "\n\n".join(tabs)


if __name__ == "__main__":
    gather(Path(sys.argv[1]))
