"""A problem ready for training: tensors, model and objective from a specification and its data sets."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import xarray as xr
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d

from analysis.data.preprocess import first, id_tensors, image_tensors, label_tensor, side_tensor, token_tensors
from analysis.models import build
from analysis.specs import ProblemSpec
from sharpflat.curvature.objective import Objective
from sharpflat.errors import InputError


@dataclass(frozen=True)
class Problem:
    """`training` is the full-batch training objective L, and `training.theta` is the initial θ.

    `curvature` is the objective whose Hessian is used: the loss on the held-out examples, or L if there are none.
    """

    spec: ProblemSpec
    training: Objective
    curvature: Objective
    test: Objective
    test_labels: Tensor
    titles: tuple[str, str]  # of the training and the test data, with their sizes

    def test_accuracy(self, theta: Tensor) -> float:
        """Fraction of the test examples whose largest output is that of their class."""
        predicted = self.test.outputs(theta).argmax(1)
        return float((predicted == self.test_labels).double().mean())


def make_problem(
    spec: ProblemSpec, train: xr.Dataset, test: xr.Dataset, seed: int, device: torch.device | str = "cpu"
) -> Problem:
    """The problem that `spec` describes, with a model that is initialised from `seed`.

    Args:
        spec: the specification of the problem.
        train: the whole training subset (schema of `analysis.data`).
        test: the whole test subset.
        seed: seed of the initialisation, which is drawn on the CPU.
        device: the device to which everything is then moved.

    Raises:
        InputError: the data do not fit the specification.
    """
    dtype = getattr(torch, spec.dtype)
    train, test = first(train, spec.data.examples), first(test, spec.data.test_examples)
    if "sentences" in train:
        inputs, test_inputs, vocabulary = token_tensors(train, test, spec.data.max_length)
        shape: tuple[int, ...] = (len(vocabulary), spec.data.max_length)
    elif "ids" in train:
        inputs, test_inputs = id_tensors(train, test, spec.data.max_length)
        shape = (int(train.attrs["vocabulary"]), spec.data.max_length)
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
    if callable(prepare := getattr(model, "train_on", None)):  # of a model that leaves out of θ what would never move
        prepare(inputs)
    model = model.to(device)
    labels, trained = label_tensor(train), spec.data.examples - spec.data.holdout
    if trained < 1:
        raise InputError(f"{spec.data.holdout} of {spec.data.examples} examples held out leave none to train on")
    training = _objective(model, spec, inputs[:trained], labels[:trained])
    held_out = _objective(model, spec, inputs[trained:], labels[trained:]) if spec.data.holdout else None
    return Problem(
        spec,
        training,
        training if held_out is None else held_out,
        _objective(model, spec, test_inputs, label_tensor(test)),
        label_tensor(test).to(device),
        (train.attrs["title"], test.attrs["title"]),
    )


def device_name(theta: Tensor) -> str:
    """The device of θ for the provenance, for example "cpu" or "cuda: NVIDIA H200"."""
    kind = theta.device.type
    return f"{kind}: {torch.cuda.get_device_name(theta.device)}" if kind == "cuda" else kind


def _objective(model: nn.Module, spec: ProblemSpec, inputs: Tensor, labels: Tensor) -> Objective:
    lengths = getattr(model, "lengths", None)  # only of a model that ignores what follows an example's last position
    lengths = None if lengths is None else lengths(inputs)
    coupled = getattr(model, "coupled", None)  # only of a model that normalises over examples
    # Tests check the models.
    return Objective(model, spec.loss, inputs, labels, lengths=lengths, coupled=coupled, check=False)
