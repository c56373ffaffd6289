"""The library's public names: what there is, that it comes late, and that types and numbers are checked."""

from __future__ import annotations

import ast
import inspect
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

import sharpflat
from sharpflat.curvature.closure import LossHessian
from sharpflat.curvature.objective import Objective
from sharpflat.errors import InputError

ROOT = Path(__file__).parents[2]


def test_public_names_are_those_of_their_modules():
    assert set(sharpflat.__all__) == {*sharpflat._MODULES, "__version__"}
    for name, module in sharpflat._MODULES.items():
        defined = getattr(sharpflat, name)
        assert defined.__name__ == name
        assert defined.__module__ == f"sharpflat.{module}"
        assert name in dir(sharpflat)
    with pytest.raises(AttributeError, match=r"^module 'sharpflat' has no attribute 'tol'$"):
        _ = sharpflat.tol


def test_each_public_name_is_documented():
    """The page of the API shows what docstrings say of it, and of what it has itself."""
    page = (ROOT / "docs/api.md").read_text(encoding="utf-8")
    assert sorted(re.findall(r"^::: sharpflat\.(\w+)$", page, re.M)) == sorted(set(sharpflat.__all__) - {"__version__"})
    for name in sharpflat._MODULES:
        public = getattr(sharpflat, name)
        assert public.__doc__, name
        for own, value in vars(public).items() if isinstance(public, type) else ():
            code = getattr(value, "fget", getattr(value, "__func__", value))
            if inspect.isfunction(code) and not own.startswith("_"):
                assert inspect.getdoc(getattr(public, own)), f"{name}.{own}"


def test_type_checkers_see_the_same_names():
    tree = ast.parse((ROOT / "sharpflat" / "__init__.py").read_text(encoding="utf-8"))
    block = next(node for node in tree.body if isinstance(node, ast.If))
    seen = {a.name: node.module for node in block.body if isinstance(node, ast.ImportFrom) for a in node.names}
    assert seen == {name: f"sharpflat.{module}" for name, module in sharpflat._MODULES.items()}


def test_errors_do_not_wait_for_torch():
    code = "import sys; from sharpflat import InputError; from sharpflat.errors import InputError; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert not {"torch", "numpy", "xarray"} & set(done.stdout.split())


def test_complex_parameters_are_refused():
    model = nn.Linear(2, 2).to(torch.complex64)
    with pytest.raises(InputError, match=r"^trainable parameters must be real numbers, not torch.complex64$"):
        Objective(model, "mse", torch.zeros(1, 2), torch.zeros(1, 2))
    with pytest.raises(InputError, match=r"^parameters must be real numbers, not torch.complex64$"):
        LossHessian(lambda: model.weight.abs().sum(), model.parameters())
