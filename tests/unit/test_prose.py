"""Words and phrases that have a plainer equivalent: they must not return to the documents, docstrings and messages."""

from __future__ import annotations

import io
import re
import tokenize
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
# Phrase (a regular expression) and what to write instead.
AVOID = {
    r"found anew|\banew\b": "recomputed, again",
    r"\btold\b|\btells\b": "says, shows, reports",
    r"\basked for\b": "requested",
    r"\basks\b": "requests, needs, calls",
    r"had again": "restored",
    r"comes? out\b|came out\b": "is, results in",
    r"\bstands? (beside|in the|there|under|still)\b": "is",
    r"\bbeside\b": "next to, compared with",
    r"to the bit\b": "bit-identical",
    r"at hand\b": "available, known",
    r"\b(is|are|was|were) looked at\b": "checked, examined",
    r"\b(hands|handed) (over|on|it)\b": "pass",
    r"\b(goes|go|went) on\b": "continues",
    r"put together from": "assembled from",
    r"\bspeaks? of\b": "is about, applies to",
    r"\bmeant for nights\b": "for overnight runs",
    r"stood still": "did not move",
    r"of which [^.;]{1,40} none\b": "none of …",
    r"counts? for nothing": "has no effect, is ignored",
    r"said once": "this warning appears once",
}
# Archives record hashes of these texts: the report shows the one, tables and a figure the others.
RECORDED = {"docs/deviations.md", "docs/results.md", "analysis/figures/staleness.py"}
DOCUMENTS = [
    path
    for pattern in (
        "README.md",
        "CONTRIBUTING.md",
        "Makefile",
        "docs/*.md",
        "docs/full-size/*.md",
        "docs/site/*.md",
        "workflow/**/*.smk",
        "analysis/**/*.j2",
    )
    for path in sorted(ROOT.glob(pattern))
    if str(path.relative_to(ROOT)) not in RECORDED
]
CODE = [
    path
    for pattern in ("sharpflat/**/*.py", "analysis/**/*.py", "workflow/**/*.py", "examples/*.py")
    for path in sorted(ROOT.glob(pattern))
    if str(path.relative_to(ROOT)) not in RECORDED
]


def words_of(path: Path) -> Iterator[tuple[int, str]]:
    """The lines of a document, or those of a module's strings and comments."""
    text = path.read_text(encoding="utf-8")
    if path.suffix != ".py":
        yield from enumerate(text.splitlines(), 1)
        return
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type in (tokenize.STRING, tokenize.COMMENT):
            for number, line in enumerate(token.string.splitlines(), token.start[0]):
                yield number, re.sub(r"\{[^{}]*\}", "", line)  # without the names in f-strings


@pytest.mark.parametrize("path", [*DOCUMENTS, *CODE], ids=lambda path: str(path.relative_to(ROOT)))
def test_plain_words(path: Path) -> None:
    found = [
        f"{path.relative_to(ROOT)}:{number}: {match[0]!r}; write instead: {instead}"
        for number, line in words_of(path)
        for phrase, instead in AVOID.items()
        if (match := re.search(phrase, line, re.IGNORECASE))
    ]
    assert found == []


def test_the_readme_is_short() -> None:
    """In words outside of its blocks of code."""
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert len(re.sub(r"```.*?```", "", readme, flags=re.DOTALL).split()) <= 700
