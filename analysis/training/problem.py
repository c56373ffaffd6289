"""A problem made ready: tensors, model and objective from a specification and the data sets it names."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import xarray as xr
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d

from analysis.curvature import Objective
from analysis.data.preprocess import first, image_tensors, label_tensor, side_tensor, token_tensors
from analysis.models import build
from analysis.specs import ProblemSpec


@dataclass(frozen=True)
class Problem:
    """`training` is the full-batch training objective L; the initial θ is `training.theta`."""

    spec: ProblemSpec
    training: Objective
    test: Objective
    test_labels: Tensor
    titles: tuple[str, str]  # of the training and the test data, with their sizes

    def test_accuracy(self, theta: Tensor) -> float:
        """Fraction of the test examples whose largest output is their class's."""
        predicted = self.test.outputs(theta).argmax(1)
        return float((predicted == self.test_labels).double().mean())


def make_problem(spec: ProblemSpec, train: xr.Dataset, test: xr.Dataset, seed: int) -> Problem:
    """The problem that `spec` describes, its model initialised from `seed`.

    Args:
        spec: what is minimised.
        train: the whole training subset (schema of `analysis.data`).
        test: the whole test subset.
        seed: of the initialisation.

    Raises:
        InputError: if the data do not fit the specification.
    """
    dtype = getattr(torch, spec.dtype)
    train, test = first(train, spec.data.examples), first(test, spec.data.test_examples)
    if "sentences" in train:
        inputs, test_inputs, vocabulary = token_tensors(train, test, spec.data.max_length)
        shape: tuple[int, ...] = (len(vocabulary), spec.data.max_length)
    elif "sides" in train:
        inputs, test_inputs = side_tensor(train, dtype), side_tensor(test, dtype)
        shape = (1,)
    else:
        inputs, test_inputs = image_tensors(train, test, spec.data.scaling, dtype)
        if spec.data.pooling > 1:
            inputs, test_inputs = (avg_pool2d(x, spec.data.pooling) for x in (inputs, test_inputs))
        shape = tuple(inputs.shape[1:])
    generator = torch.Generator().manual_seed(seed)
    model = build(spec.model, shape, int(train.attrs["classes"]), generator, dtype)
    return Problem(
        spec,
        _objective(model, spec, inputs, label_tensor(train)),
        _objective(model, spec, test_inputs, label_tensor(test)),
        label_tensor(test),
        (train.attrs["title"], test.attrs["title"]),
    )


def _objective(model: nn.Module, spec: ProblemSpec, inputs: Tensor, labels: Tensor) -> Objective:
    return Objective(model, spec.loss, inputs, labels)
