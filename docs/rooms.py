"""Print the rooms of the project, the floor of each, and the rooms that it imports from (needs grimp, from `.venv`)."""

from __future__ import annotations

import sys
from functools import cache
from pathlib import Path

import grimp

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))
graph = grimp.build_graph("sharpflat", "analysis", cache_dir=None)


def room(module: str) -> str:
    """The folder or module right below `analysis`; the library is one room."""
    return ".".join(module.split(".")[: 1 if module.startswith("sharpflat") else 2])


@cache
def below(name: str) -> tuple[str, ...]:
    """The rooms that a room imports from."""
    modules = (module for module in graph.modules if room(module) == name)
    found = {room(other) for module in modules for other in graph.find_modules_directly_imported_by(module)}
    return tuple(sorted(found - {name, "analysis"}))


@cache
def floor(name: str) -> int:
    """One more than that of the highest room below."""
    return 1 + max(map(floor, below(name)), default=0)


rooms = sorted({room(module) for module in graph.modules} - {"analysis"}, key=lambda name: (-floor(name), name))
print(f"{len(rooms)} rooms, {sum(len(below(name)) for name in rooms)} arrows")
for name in rooms:
    print(
        floor(name), name.removeprefix("analysis."), "->", ", ".join(n.removeprefix("analysis.") for n in below(name))
    )
