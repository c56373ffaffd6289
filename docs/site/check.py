"""Check a built site: every link and image leads somewhere in it, and nothing is loaded from elsewhere.

`python docs/site/check.py site` lists what is wrong, and then fails.
"""

from __future__ import annotations

import sys
from functools import cache
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

LOADED = {("script", "src"), ("img", "src"), ("link", "href"), ("iframe", "src")}


class Page(HTMLParser):
    """What a page links to or loads, as (tag, attribute, target), and the anchors that it has."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.links: list[tuple[str, str, str]] = []
        self.anchors: set[str] = {""}
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        for name, value in attributes:
            if name in ("id", "name") and value:
                self.anchors.add(value)
            if name in ("href", "src") and value:
                self.links.append((tag, name, value))


def problems(site: Path) -> list[str]:
    """What is wrong, a line each."""
    page, found = cache(Page), []
    for path in sorted(site.rglob("*.html")):
        for tag, attribute, link in page(path).links:
            target = urlsplit(link)
            if target.scheme or target.netloc:
                wrong = (tag, attribute) in LOADED and target.scheme != "data"
                found += [f"{path}: loads {link}"] * wrong
                continue
            file = (path.parent / unquote(target.path)).resolve() if target.path else path
            file = file / "index.html" if file.is_dir() else file
            if path.name == "404.html":
                continue  # its links are from the root of a server
            if not file.exists():
                found.append(f"{path}: {link} leads nowhere")
            elif file.suffix == ".html" and unquote(target.fragment) not in page(file).anchors:
                found.append(f"{path}: {link}: no such anchor")
    return sorted(set(found))


if __name__ == "__main__":
    wrong = problems(Path(sys.argv[1]))
    sys.exit("\n".join(wrong) if wrong else 0)
