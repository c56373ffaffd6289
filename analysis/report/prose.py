"""Markdown as part of the report: escaped, one level deeper, tables in regions that scroll, no links."""

from __future__ import annotations

from pathlib import Path

from markdown_it import MarkdownIt
from markdown_it.token import Token
from markupsafe import Markup, escape

from sharpflat.errors import InputError

LINKS = ("link_open", "link_close")  # they lead to other documents, which do not come with the report


def rendered(path: Path) -> Markup:
    """The document without its first heading, those below it one level deeper.

    Raises:
        InputError: if it cannot be read.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: cannot be read ({error})") from error
    markdown = MarkdownIt("commonmark", {"html": False}).enable("table")
    tokens = _without_title(markdown.parse(text))
    section = path.stem
    for token, following in zip(tokens, [*tokens[1:], None], strict=True):
        if token.type == "heading_open" and following is not None:
            section = following.content
        if token.type in ("heading_open", "heading_close"):
            token.tag = f"h{min(int(token.tag[1:]) + 1, 6)}"
        if token.type == "table_open":
            token.type, token.tag, token.content = "html_block", "", _region(section)
        if token.type == "table_close":
            token.type, token.tag, token.content = "html_block", "", "</table></div>\n"
        token.children = [_plain(child) for child in token.children or [] if child.type not in LINKS]
    return Markup(markdown.renderer.render(tokens, markdown.options, {}))


def _without_title(tokens: list[Token]) -> list[Token]:
    """A document's title: the heading that it begins with (three tokens)."""
    return tokens[3:] if tokens and tokens[0].type == "heading_open" and tokens[0].tag == "h1" else tokens


def _region(section: str) -> str:
    return (
        f'<div class="scroll" role="region" tabindex="0" aria-label="Table: {escape(section)}"><table class="prose">\n'
    )


def _plain(token: Token) -> Token:
    """An image as its text."""
    return Token("text", "", 0, content=token.content) if token.type == "image" else token
