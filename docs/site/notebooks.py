"""Run a notebook in jupytext's percent format, and write it as Markdown with what its cells print, show and draw."""

from __future__ import annotations

import ast
import io
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("agg")
import matplotlib.pyplot as plt


def render(notebook: Path, pages: Path) -> None:
    """Write `notebooks/<name>.md` and its images below `pages`; the notebook runs in the current folder.

    Raises:
        Exception: whatever a cell raises.
    """
    folder = pages / "notebooks"
    folder.mkdir(parents=True, exist_ok=True)
    names: dict[str, Any] = {"__name__": "__main__"}
    parts, images = [], 0
    for cell in ("\n" + notebook.read_text(encoding="utf-8")).split("\n# %%")[1:]:
        kind, _, text = cell.partition("\n")
        if "[markdown]" in kind:
            parts.append("\n".join(line.removeprefix("#").removeprefix(" ") for line in text.splitlines()))
            continue
        parts.append(f"```python\n{text.strip()}\n```")
        printed, value = run(text, names)
        if printed:
            parts.append(f"```text\n{printed.rstrip()}\n```")
        if value is not None:
            parts.append(shown(value))
        for number in plt.get_fignums():
            images += 1
            image = f"{notebook.stem}-{images}.png"
            plt.figure(number).savefig(folder / image, dpi=150)
            parts.append(f"![Figure {images}]({image})")
        plt.close("all")
    parts.insert(1, f"*[{notebook.name}](../../examples/{notebook.name}) is this page as a notebook (jupytext).*")
    (folder / f"{notebook.stem}.md").write_text("\n\n".join(parts) + "\n", encoding="utf-8")


def run(code: str, names: dict[str, Any]) -> tuple[str, Any]:
    """What the cell prints, and the value of its last expression."""
    statements = ast.parse(code).body
    last = statements.pop() if statements and isinstance(statements[-1], ast.Expr) else None
    show, plt.show = plt.show, lambda: None
    try:
        with redirect_stdout(io.StringIO()) as printed:
            exec(compile(ast.Module(statements, []), "cell", "exec"), names)
            value = eval(compile(ast.Expression(last.value), "cell", "eval"), names) if last else None
    finally:
        plt.show = show
    return printed.getvalue(), value


def shown(value: Any) -> str:
    """As a notebook shows it."""
    if hasattr(value, "to_html"):  # pandas' tables
        return f'<div class="output">\n{value.to_html(border=0)}\n</div>'
    return f"```text\n{value}\n```"
