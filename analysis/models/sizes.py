"""Numbers of parameters, without building a model (the plan must not wait for torch)."""

from __future__ import annotations

from itertools import pairwise

from analysis.data.catalogue import describe
from analysis.specs import (
    CNNSpec,
    MLPSpec,
    ProblemSpec,
    QuadraticSpec,
    ResNetSpec,
    TransformerSpec,
    ValleySpec,
    VGGSpec,
)


def parameter_count(problem: ProblemSpec, vocabulary: int = 0) -> int:
    """P of a problem's model; for text a lower bound unless the vocabulary's size is given.

    Raises:
        ValueError: if the model and the data, or the model and the loss, do not fit; the message says how.
    """
    info, spec = describe(problem.data.train), problem.model
    toy = isinstance(spec, QuadraticSpec | ValleySpec)
    if toy != (problem.loss == "value"):
        takes = "value" if toy else "mse or cross_entropy"
        raise ValueError(f"the loss of a {spec.kind} is {takes}; the setting's is {problem.loss}")
    wanted = "toy" if toy else "text" if isinstance(spec, TransformerSpec) else "image"
    if info.kind != wanted:
        raise ValueError(f"a {spec.kind} takes {wanted} data; {problem.data.train} is {info.kind}")
    if isinstance(spec, QuadraticSpec | ValleySpec):
        return 2
    channels, rows, columns = (1, *info.shape)[-3:] if wanted == "image" else (0, 0, 0)
    rows, columns = rows // problem.data.pooling, columns // problem.data.pooling
    if wanted == "image" and rows * columns == 0:
        raise ValueError(
            f"data.pooling averages {problem.data.pooling} × {problem.data.pooling} pixels, which leaves nothing of "
            "the images"
        )
    if isinstance(spec, MLPSpec):
        sizes = [channels * rows * columns, *[spec.width] * spec.hidden_layers, info.classes]
        return sum((a + 1) * b for a, b in pairwise(sizes))
    if isinstance(spec, CNNSpec):
        total = 0
        for _ in range(spec.convolutions):
            total += (9 * channels + 1) * spec.channels
            channels, rows, columns = spec.channels, rows // 2, columns // 2
        if rows * columns == 0:
            raise ValueError(f"{spec.convolutions} poolings leave nothing of the images")
        return total + (channels * rows * columns + 1) * info.classes
    if isinstance(spec, VGGSpec):
        w = spec.width
        for _ in range(5):
            if min(rows, columns) > 1:
                rows, columns = rows // 2, columns // 2
        sizes = [channels, w, 2 * w, 4 * w, 4 * w, 8 * w, 8 * w, 8 * w, 8 * w]
        total = sum((9 * a + 1) * b for a, b in pairwise(sizes))
        sizes = [8 * w * rows * columns, 8 * w, 8 * w, info.classes]
        return total + sum((a + 1) * b for a, b in pairwise(sizes))
    if isinstance(spec, ResNetSpec):
        w = spec.width
        total = (9 * channels + 2) * w
        for a, b in [(w, w), (w, 2 * w), (2 * w, 4 * w)]:
            total += (9 * a + 2) * b + (9 * b + 2) * b + (a != b) * (a + 2) * b
        return total + (4 * w + 1) * info.classes
    if spec.width % spec.heads:
        raise ValueError(f"the width {spec.width} must be a multiple of the number of heads, {spec.heads}")
    w, f = spec.width, spec.feed_forward
    layer = 4 * w * (w + 1) + (w + 1) * f + (f + 1) * w + 4 * w
    return (vocabulary + problem.data.max_length + 2) * w + spec.layers * layer + (w + 1) * info.classes
