"""Figures from datasets alone. A family of figures is a module of this package with `draw(panels)`."""

from __future__ import annotations

import json
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path


def draw_figure(params: str, trajectories: Mapping[str, Path], outputs: Mapping[str, Path]) -> None:
    """Draw one figure and write it in the formats of `outputs` ("pdf", "png").

    Args:
        params: what `analysis.plan` says of the figure (JSON).
        trajectories: the trajectory file of each segment id that the figure names.
        outputs: path by format.

    Raises:
        InputError: if a dataset is missing or damaged, or an output cannot be written.
    """
    from analysis.figures import style
    from analysis.store import read_dataset
    from analysis.trajectory import read_panels

    figure = json.loads(params)
    datasets = {name: read_dataset(path) for name, path in trajectories.items()}
    with style.applied():
        style.save(import_module(figure["module"]).draw(read_panels(figure, datasets)), outputs)
