"""PyTorch's default initialisation, drawn from a given generator (PyTorch itself draws from the global one)."""

from __future__ import annotations

import math

import torch
from torch import nn


@torch.no_grad()
def initialise(model: nn.Module, generator: torch.Generator) -> None:
    """Initialise every parameter as the `reset_parameters` of its module would, in order of registration.

    A module with a method `initialise(generator)` uses it for its own parameters and those of its parts. The draws
    equal those that PyTorch makes when the model is built after seeding the global generator in the same way (tested
    bit for bit).

    Raises:
        TypeError: a module has its own parameters, and their default is not known here.
    """
    done: set[nn.Module] = set()
    for name, module in model.named_modules():
        if module in done:
            continue
        if callable(own := getattr(module, "initialise", None)):
            own(generator)
            done.update(module.modules())
        elif isinstance(module, nn.Linear | nn.Conv2d):
            _linear(module, generator)
        elif isinstance(module, nn.MultiheadAttention):
            _linear(module.out_proj, generator)
            nn.init.xavier_uniform_(module.in_proj_weight, generator=generator)
            module.in_proj_bias.zero_()
            module.out_proj.bias.zero_()
            done.add(module.out_proj)
        elif isinstance(module, nn.Embedding):
            module.weight.normal_(generator=generator)
        elif isinstance(module, nn.LayerNorm | nn.GroupNorm):
            module.weight.fill_(1)
            module.bias.zero_()
        elif next(module.parameters(recurse=False), None) is not None:
            raise TypeError(f"no default initialisation is known for {name} ({type(module).__name__})")


@torch.no_grad()
def redraw_convolutions(model: nn.Module, generator: torch.Generator) -> None:
    """After `initialise`, He et al.'s initialisation for convolutions: N(0, 2/n), n = channels out × the kernel's size;
    biases 0.

    It equals the initialisation of VGG in the edge-of-stability code (tested bit for bit), in which linear layers keep
    PyTorch's default.
    """
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            fan_out = module.out_channels * math.prod(module.kernel_size)
            module.weight.normal_(0, math.sqrt(2 / fan_out), generator=generator)
            if module.bias is not None:
                module.bias.zero_()


def _linear(module: nn.Linear | nn.Conv2d, generator: torch.Generator) -> None:
    nn.init.kaiming_uniform_(module.weight, a=math.sqrt(5), generator=generator)
    if module.bias is not None:
        bound = 1 / math.sqrt(module.weight[0].numel())
        module.bias.uniform_(-bound, bound, generator=generator)
