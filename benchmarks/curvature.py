"""Benchmark of the curvature engine against what else there is; table, plot and JSON for docs/benchmarks/.

    python benchmarks/curvature.py --data-dir DIR        # DIR holds MNIST/raw/*-ubyte; see --help

It takes about ten minutes on one core. With `--device` (cpu, cuda) only our own engine is timed, on that device: a warm
refresh and a Dom-SGD run, each compared with the least time that its matrix products take.

Refreshes: along consecutive SGD steps of an MLP on MNIST, every method finds the 10 largest eigenvalues of
the loss Hessian at the same θ, one method after the other at each step, each timed next to its accuracy
against tight eigenvectors. Products: time of H, H_o, H_f and joint products relative to one gradient.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import os
import platform
import statistics
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import torch
from scipy.sparse.linalg import LinearOperator, eigsh, lobpcg
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from analysis.data import load as load_data
from analysis.models import build
from analysis.models.cnn import Numbers as CNNNumbers
from analysis.models.mlp import Numbers as MLPNumbers
from analysis.models.transformer import Numbers as TransformerNumbers
from analysis.rules.sgd import Numbers as SGDNumbers
from analysis.specs import DataSpec, FilterSpec, ProblemSpec, SegmentSpec, StopSpec
from analysis.training.problem import device_name
from analysis.training.segment import train_segment
from analysis.training.torch_setup import prepare
from sharpflat.curvature.eigensolver import TopEigenspace, top_eigenspace
from sharpflat.curvature.objective import Objective
from sharpflat.curvature.operators import FunctionalHessian, GaussNewton, Hessian, joint_products

mpl.use("Agg")
import matplotlib.pyplot as plt

K = 10
Solution = tuple[Tensor, Tensor, int | None]  # eigenvalues [k], eigenvectors [P, k], products where counted


def load(data_dir: Path, count: int) -> tuple[Tensor, Tensor]:
    """The first `count` images of MNIST-5k in [0, 1], [N, 784], and labels [N]."""
    data = load_data("mnist5k", data_dir)
    images = torch.from_numpy(data.inputs.values[:count].reshape(count, -1)).float() / 255
    return images, torch.from_numpy(data.labels.values[:count].astype(np.int64))


def mlp(width: int, generator: torch.Generator) -> nn.Module:
    return build(MLPNumbers(width=width), (1, 28, 28), 10, generator, torch.float32)


# ---------------------------------------------------------------- the methods


class HalfSquaredError(nn.Module):
    """Mean over examples of ½‖f(x) − y‖² for class indices: our "mse", for libraries that take a module."""

    reduction = "mean"  # curvlinops needs it

    def forward(self, outputs: Tensor, targets: Tensor) -> Tensor:
        return 0.5 * (outputs - nn.functional.one_hot(targets, 10)).square().sum(1).mean()


class Ours:
    """Our solver, warm (from its own last block) or cold."""

    def __init__(self, objective: Objective, tolerance: float, *, warm: bool, block: int | None = None) -> None:
        self.objective, self.tolerance, self.warm, self.block = objective, tolerance, warm, block
        self.start: Tensor | None = None

    def __call__(self, theta: Tensor) -> Solution:
        operator = Hessian(self.objective, theta)
        r = top_eigenspace(operator, K, start=self.start, tolerance=self.tolerance, block=self.block)
        if self.warm:
            self.start = r.start
        return r.eigenvalues, r.eigenvectors, r.products


class Lobpcg:
    """SciPy's LOBPCG on our products, warm from its own last block of k + 2 vectors, ten iterations at most.

    It stops only when the two guard vectors have converged too, which ours do not have to: not tuned.
    """

    def __init__(self, objective: Objective, tolerance: float) -> None:
        self.objective, self.tolerance = objective, tolerance
        self.block: np.ndarray | None = None
        self.kth = 1.0

    def __call__(self, theta: Tensor) -> Solution:
        operator, count = Hessian(self.objective, theta), 0

        def multiply(v: np.ndarray) -> np.ndarray:
            nonlocal count
            count += v.shape[1] if v.ndim > 1 else 1
            return operator.matmat(torch.from_numpy(v.reshape(len(v), -1).astype(np.float32))).numpy()

        if self.block is None:  # its cold start is not what is measured
            r = top_eigenspace(operator, K, tolerance=0.01)
            self.block, self.kth = r.start.numpy().copy(), float(r.eigenvalues[-1])
        size = (len(theta), len(theta))
        wrapped = LinearOperator(size, matvec=multiply, matmat=multiply, dtype=np.float32)
        with warnings.catch_warnings():  # the guard vectors need not converge, and it warns
            warnings.simplefilter("ignore")
            values, vectors = lobpcg(wrapped, self.block, largest=True, tol=self.tolerance * self.kth, maxiter=10)
        self.block, self.kth = vectors, float(values[K - 1])
        return torch.from_numpy(values[:K]), torch.from_numpy(vectors[:, :K].copy()), count


class Chebyshev:
    """Chebyshev-filtered subspace iteration on our products, warm: filter of degree 2, then Rayleigh–Ritz."""

    def __init__(self, objective: Objective, tolerance: float) -> None:
        self.objective, self.tolerance = objective, tolerance
        self.block: Tensor | None = None
        self.cut = 0.0

    def __call__(self, theta: Tensor) -> Solution:
        operator, products = Hessian(self.objective, theta), 0
        if self.block is None:
            r = top_eigenspace(operator, K, tolerance=0.01)
            self.block, self.cut = r.start, float(r.eigenvalues[-1]) / 2
        while True:
            # Damps [−cut, cut]: half of λ_k and below, and the negative eigenvalues, which are smaller here.
            first = operator.matmat(self.block) / self.cut
            filtered = 2 * operator.matmat(first) / self.cut - self.block
            basis, _ = torch.linalg.qr(filtered)
            images = operator.matmat(basis)
            products += 3 * basis.shape[1]
            values, rotation = torch.linalg.eigh(basis.T @ images)
            values, rotation = values.flip(0), rotation.flip(1)
            self.block, images = basis @ rotation, images @ rotation
            residuals = (images - self.block * values)[:, :K].norm(dim=0)
            if bool((residuals <= self.tolerance * values[K - 1]).all()):
                self.cut = float(values[K - 1]) / 2
                return values[:K], self.block[:, :K], products


class EdgeOfStability:
    """SciPy's eigsh as the edge-of-stability code calls it: cold, default tolerance, one full pass a product.

    Its `which` is the default LM, the largest in magnitude: the same vectors here, where |λ_min| < λ_k.
    """

    chunk = 1000  # its physical batch size

    def __init__(self, model: nn.Module, inputs: Tensor, targets: Tensor) -> None:
        self.model, self.inputs, self.targets = model, inputs, targets
        self.loss = HalfSquaredError()

    def product(self, v: Tensor) -> Tensor:
        parameters = list(self.model.parameters())
        total = torch.zeros_like(v)
        for x, y in zip(self.inputs.split(self.chunk), self.targets.split(self.chunk), strict=True):
            share = self.loss(self.model(x), y) * (len(x) / len(self.inputs))
            gradients = torch.autograd.grad(share, parameters, create_graph=True)
            dot = nn.utils.parameters_to_vector(gradients).mul(v).sum()
            parts = torch.autograd.grad(dot, parameters, retain_graph=True)
            total += nn.utils.parameters_to_vector(parts)
        return total

    def __call__(self, theta: Tensor) -> Solution:
        nn.utils.vector_to_parameters(theta.clone(), self.model.parameters())
        count = 0

        def multiply(v: np.ndarray) -> np.ndarray:
            nonlocal count
            count += 1
            return self.product(torch.from_numpy(v.reshape(-1).astype(np.float32))).numpy()

        operator = LinearOperator((len(theta), len(theta)), matvec=multiply, dtype=np.float32)
        # A fixed start, for the sake of equal runs; any random one is as good.
        start = np.random.default_rng(0).standard_normal(len(theta)).astype(np.float32)
        values, vectors = eigsh(operator, K, v0=start)
        order = np.argsort(values)[::-1].copy()
        return torch.from_numpy(values[order]), torch.from_numpy(vectors[:, order]), count


class Curvlinops(EdgeOfStability):
    """curvlinops' Hessian under SciPy's eigsh, largest algebraic."""

    def __call__(self, theta: Tensor) -> Solution:
        import curvlinops

        nn.utils.vector_to_parameters(theta.clone(), self.model.parameters())
        data = list(zip(self.inputs.split(self.chunk), self.targets.split(self.chunk), strict=True))
        operator = curvlinops.HessianLinearOperator(
            self.model,
            HalfSquaredError(),
            [p for p in self.model.parameters() if p.requires_grad],
            data,
            check_deterministic=False,
            num_data=len(self.inputs),
        )
        inner = operator.to_scipy()
        count = 0

        def multiply(v: np.ndarray) -> np.ndarray:
            nonlocal count
            count += 1
            return inner @ v.reshape(-1).astype(np.float32)

        start = np.random.default_rng(0).standard_normal(len(theta)).astype(np.float32)
        wrapped = LinearOperator(inner.shape, matvec=multiply, dtype=np.float32)
        values, vectors = eigsh(wrapped, K, which="LA", v0=start)
        order = np.argsort(values)[::-1].copy()
        return torch.from_numpy(values[order]), torch.from_numpy(vectors[:, order]), count


class PyHessian(EdgeOfStability):
    """PyHessian's power iteration with deflation, at its defaults; the largest in magnitude."""

    def __call__(self, theta: Tensor) -> Solution:
        from pyhessian import hessian

        nn.utils.vector_to_parameters(theta.clone(), self.model.parameters())
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            computer = hessian(self.model, HalfSquaredError(), data=(self.inputs, self.targets), cuda=False)
            values, vectors = computer.eigenvalues(top_n=K)
        self.model.zero_grad(set_to_none=True)
        columns = [torch.cat([p.reshape(-1) for p in v]) for v in vectors]
        return torch.tensor(values), torch.stack(columns, dim=1).detach(), None


class HessianEigenthings(EdgeOfStability):
    """hessian-eigenthings' Lanczos iteration at its defaults."""

    def __call__(self, theta: Tensor) -> Solution:
        import hessian_eigenthings as he

        nn.utils.vector_to_parameters(theta.clone(), self.model.parameters())
        operator = he.HessianOperator(self.model, [(self.inputs, self.targets)], he.supervised_loss(HalfSquaredError()))
        r = he.lanczos(operator, k=K, which="LA", seed=0)
        return r.eigenvalues, r.eigenvectors.T, r.iterations


# ---------------------------------------------------------------- refreshes


def refreshes(args: argparse.Namespace, width: int, count: int) -> dict[str, Any]:
    """Every method along the same consecutive SGD steps."""
    generator = torch.Generator().manual_seed(args.seed)
    model = mlp(width, generator)
    inputs, targets = load(args.data_dir, count)
    objective = Objective(model, "mse", inputs, targets)

    def sgd(theta: Tensor) -> Tensor:
        batch = torch.randint(count, (50,), generator=generator)
        return theta - args.lr * objective.gradient(theta, batch)

    theta = objective.theta
    for _ in range(args.warmup):
        theta = sgd(theta)

    methods: dict[str, Callable[[Tensor], Solution]] = {
        **{
            f"ours, warm, tolerance {tolerance:g}": Ours(objective, tolerance, warm=True)
            for tolerance in (0.1, 0.05, 0.01)
        },
        "ours, cold, tolerance 0.01": Ours(objective, 0.01, warm=False),
        "ours, cold, block=1, tolerance 0.01": Ours(objective, 0.01, warm=False, block=1),
        "SciPy lobpcg on our products, warm, tolerance 0.05": Lobpcg(objective, 0.05),
        "Chebyshev filter on our products, warm, tolerance 0.05": Chebyshev(objective, 0.05),
        "SciPy eigsh, cold (edge-of-stability)": EdgeOfStability(model, inputs, targets),
        "curvlinops + eigsh, cold": Curvlinops(model, inputs, targets),
        "hessian-eigenthings, lanczos": HessianEigenthings(model, inputs, targets),
        "PyHessian, eigenvalues(top_n=10)": PyHessian(model, inputs, targets),
    }
    skipped = {name: reason for name in methods if (reason := missing(name))}
    for name, reason in skipped.items():
        print(f"skipped {name}: {reason}")
        del methods[name]

    rows: dict[str, list[dict[str, float]]] = {name: [] for name in methods}
    reference = top_eigenspace(Hessian(objective, theta), K, tolerance=1e-4, guard=10)
    for method in methods.values():
        if isinstance(method, Lobpcg | Chebyshev) or (isinstance(method, Ours) and method.warm):
            method(theta)  # its cold start belongs to the step before
    ratios = []
    for step in range(args.steps):
        theta = sgd(theta)
        reference = top_eigenspace(Hessian(objective, theta), K, start=reference.start, tolerance=1e-4, guard=10)
        if step == 0:
            ritz = reference.start.T @ Hessian(objective, theta).matmat(reference.start)
            ratios = torch.linalg.eigvalsh(ritz).flip(0).tolist()
        for name, method in methods.items():
            if step >= args.slow_steps and name.startswith(("PyHessian", "curvlinops")):
                continue
            wall, cpu = time.perf_counter(), time.process_time()
            values, vectors, products = method(theta)
            row = {"wall": time.perf_counter() - wall, "cpu": time.process_time() - cpu}
            row["products"] = products if products is not None else float("nan")
            exact = reference.eigenvalues
            row["eigenvalue_error"] = float(((values[:K].to(exact) - exact) / exact).abs().max())
            q, _ = torch.linalg.qr(vectors.to(reference.eigenvectors))
            row["overlap"] = float((q.T @ reference.eigenvectors).square().sum()) / K
            rows[name].append(row)
        print(f"width {width}, step {step + 1} of {args.steps}", flush=True)

    base = summary(rows["SciPy eigsh, cold (edge-of-stability)"])
    table = {name: summary(r, base) for name, r in rows.items()}
    return {
        "problem": f"784-{width}-{width}-10 tanh, {count} images, MSE, after {args.warmup} SGD steps",
        "P": objective.size,
        "loss": float(objective.value(theta)),
        "eigenvalues": ratios,
        "methods": table,
        "skipped": skipped,
        "rows": rows,
    }


def missing(name: str) -> str | None:
    """Why a method cannot run here."""
    package = {"curvlinops": "curvlinops", "hessian-e": "hessian_eigenthings", "PyHessian": "pyhessian"}
    for start, module in package.items():
        if name.startswith(start):
            try:
                __import__(module)
            except ImportError as error:
                return str(error)
    return None


def summary(rows: list[dict[str, float]], base: dict[str, float] | None = None) -> dict[str, float]:
    """Medians of the costs, worst of the errors, and costs relative to `base`."""
    result = {key: statistics.median(r[key] for r in rows) for key in ("wall", "cpu")}
    result["products"] = statistics.mean(r["products"] for r in rows)
    result["overlap_mean"] = statistics.mean(r["overlap"] for r in rows)
    result["overlap_worst"] = min(r["overlap"] for r in rows)
    result["eigenvalue_error_worst"] = max(r["eigenvalue_error"] for r in rows)
    result["steps"] = len(rows)
    if base is not None:
        for key in ("wall", "cpu", "products"):
            result[f"{key}_relative"] = result[key] / base[key]
    return result


# ---------------------------------------------------------------- products


def cpu_time(function: Callable[[], object], repeats: int = 3) -> float:
    """The best of some repeats, in seconds of CPU time: neighbours on the machine disturb it least."""
    function()
    times = []
    for _ in range(repeats):
        start = time.process_time()
        function()
        times.append(time.process_time() - start)
    return min(times)


def product_costs(args: argparse.Namespace) -> list[dict[str, Any]]:
    """Time per vector of each product, relative to one full gradient."""
    g = torch.Generator().manual_seed(args.seed)
    images, labels = load(args.data_dir, 5000)
    pictures, classes = torch.randn(400, 3, 32, 32, generator=g), torch.randint(10, (400,), generator=g)
    channels_last = pictures.contiguous(memory_format=torch.channels_last)
    tokens, binary = torch.randint(1, 200, (500, 32), generator=g), torch.randint(2, (500,), generator=g)
    cnn, other_cnn = (build(CNNNumbers(channels=32), (3, 32, 32), 10, g, torch.float32) for _ in range(2))
    other_cnn.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    spec = TransformerNumbers(width=32, heads=2, feed_forward=128)
    transformer = build(spec, (200, 32), 2, g, torch.float32)
    problems: list[tuple[str, nn.Module, str, Tensor, Tensor]] = [
        ("MLP 784-200-200-10, 5,000 images", mlp(200, g), "mse", images, labels),
        ("MLP 784-32-32-10, 1,000 images", mlp(32, g), "mse", images[:1000], labels[:1000]),
        ("CNN 32 channels, 400 images", cnn, "mse", pictures, classes),
        ("the same, channels_last", other_cnn, "mse", channels_last, classes),
        ("transformer, width 32, 500 sequences", transformer, "cross_entropy", tokens, binary),
    ]
    table = []
    for name, model, loss, inputs, targets in problems:
        objective = Objective(model, loss, inputs, targets)
        theta = objective.theta
        gradient = cpu_time(lambda o=objective, t=theta: o.gradient(t))  # type: ignore[misc]
        row: dict[str, Any] = {"problem": name, "P": objective.size, "gradient_seconds": gradient}
        for count in (1, 10):
            V = torch.randn(count, objective.size, generator=g).T
            separate = 0.0
            for label, kind in (("H", Hessian), ("H_o", GaussNewton), ("H_f", FunctionalHessian)):
                # With the passes that the products share, as for a new θ.
                seconds = cpu_time(lambda k=kind, o=objective, t=theta, v=V: k(o, t).matmat(v))  # type: ignore
                separate += seconds
                row[f"{label}_{count}"] = seconds / count / gradient
            seconds = cpu_time(lambda o=objective, t=theta, v=V: joint_products(o, t, v))  # type: ignore[misc]
            row[f"joint_{count}"] = seconds / count / gradient
            row[f"joint_to_separate_{count}"] = seconds / separate
            if (reason := missing("curvlinops")) is None:
                for label in ("H", "H_o"):
                    operator = theirs(label, model, loss, inputs, targets)
                    seconds = cpu_time(lambda a=operator, v=V: a @ v, repeats=1)  # type: ignore[misc]
                    row[f"curvlinops_{label}_{count}"] = seconds / count / gradient
            else:
                print(f"skipped curvlinops: {reason}")
        table.append(row)
        print(name, flush=True)
    return table


def theirs(label: str, model: nn.Module, loss: str, inputs: Tensor, targets: Tensor) -> Any:
    """curvlinops' operator for the same matrix (up to a factor for its MSE)."""
    import curvlinops

    kind = {"H": curvlinops.HessianLinearOperator, "H_o": curvlinops.GGNLinearOperator}[label]
    module: nn.Module = nn.CrossEntropyLoss()
    if loss == "mse":
        module, targets = nn.MSELoss(), nn.functional.one_hot(targets, 10).float()
    parameters = [p for p in model.parameters() if p.requires_grad]
    return kind(model, module, parameters, [(inputs, targets)], check_deterministic=False)


# ---------------------------------------------------------------- output


def environment(args: argparse.Namespace) -> dict[str, Any]:
    packages = ("torch", "numpy", "scipy", "curvlinops-for-pytorch", "pyhessian", "hessian-eigenthings")
    versions = {}
    for package in packages:
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            versions[package] = "not installed"
    cpu = platform.processor()
    if Path("/proc/cpuinfo").exists():
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                cpu = line.split(":", 1)[1].strip()
                break
    return {
        "python": platform.python_version(),
        "cpu": cpu,
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "load_before": os.getloadavg()[0],
        "dtype": "float32",
        **versions,
        "arguments": {key: str(value) for key, value in vars(args).items() if key != "data_dir"},
    }


# ---------------------------------------------------------------- one device


def seconds_of(function: Callable[[], object]) -> float:
    """Wall time until the device is done."""

    def wait() -> None:
        if torch.cuda.is_initialized():
            torch.cuda.synchronize()

    wait()
    begun = time.perf_counter()
    function()
    wait()
    return time.perf_counter() - begun


def operations(function: Callable[[], object]) -> int:
    """Floating-point operations of its matrix products (a multiplication and an addition each)."""
    with FlopCounterMode(display=False) as counter:
        function()
    return int(counter.get_total_flops())


def peak(device: torch.device) -> float:
    """The best rate of a float32 matrix product found here, operations a second."""
    rates = []
    for n in (1024, 2048, 4096) if device.type == "cpu" else (4096, 8192, 16384):
        a = torch.randn(n, n, generator=torch.Generator().manual_seed(0)).to(device)
        seconds_of(lambda a=a: a @ a)  # type: ignore[misc]
        rates.append(2 * n**3 / min(seconds_of(lambda a=a: a @ a) for _ in range(3)))  # type: ignore[misc]
    return max(rates)


def on_device(args: argparse.Namespace) -> dict[str, Any]:
    """A warm refresh of the full MLP's subspace, and Dom-SGD steps as the pipeline makes them, compared with their
    lower bounds."""
    device = prepare(args.device, args.threads)
    generator = torch.Generator().manual_seed(args.seed)
    inputs, targets = load(args.data_dir, args.examples)
    objective = Objective(mlp(200, generator).to(device), "mse", inputs, targets)
    rate = peak(device)

    def sgd(theta: Tensor) -> Tensor:
        batch = torch.randint(len(inputs), (50,), generator=generator).to(device)
        return theta - args.lr * objective.gradient(theta, batch)

    theta = objective.theta
    for _ in range(args.warmup):
        theta = sgd(theta)
    rows: list[dict[str, float]] = []
    found = top_eigenspace(Hessian(objective, theta), K, tolerance=args.tolerance)
    for _ in range(args.steps):
        theta = sgd(theta)

        def refresh(theta: Tensor = theta, start: Tensor = found.start) -> TopEigenspace:
            return top_eigenspace(Hessian(objective, theta), K, start=start, tolerance=args.tolerance)

        rows.append({"seconds": seconds_of(refresh), "operations": operations(refresh)})
        found = refresh()
        rows[-1]["products"] = found.products
    refreshes = {key: statistics.median(row[key] for row in rows) for key in rows[0]}

    data = {name: load_data(name, args.data_dir) for name in ("mnist5k", "mnist-test")}
    spec = SegmentSpec(
        problem=ProblemSpec(
            data=DataSpec(
                train="mnist5k",
                train_sha256=data["mnist5k"].attrs["sha256"],
                examples=args.examples,
                test="mnist-test",
                test_sha256=data["mnist-test"].attrs["sha256"],
                test_examples=1000,
            ),
            model=MLPNumbers(width=200),
            loss="mse",
            k=K,
        ),
        seed=args.seed,
        parent=None,
        rule=SGDNumbers(learning_rate=args.lr, batch_size=50),
        filter=FilterSpec(alpha_dom=1.0, beta_bulk=0.0, tolerance=args.tolerance),
        probes={"loss": {"every": 10**6}, "test": {"every": 10**6}},
        stop=StopSpec(steps=args.steps),
    )

    def run(steps: int = args.steps) -> Any:
        made = spec.model_copy(update={"stop": StopSpec(steps=steps)})
        return train_segment(made, "benchmark", data["mnist5k"], data["mnist-test"], None, device=device)

    run(1)
    begin, whole = seconds_of(lambda: run(0)), seconds_of(run)
    steps = {
        "seconds": (whole - begin) / args.steps,
        "operations": (operations(run) - operations(lambda: run(0))) / args.steps,
        "products": run().trajectory.attrs["filter_products"] / args.steps,
    }
    for entry in (refreshes, steps):
        entry["floor"] = entry["operations"] / rate
    return {
        "device": device_name(theta),
        "problem": f"784-200-200-10 tanh, {args.examples} images, MSE, k = {K}, tolerance {args.tolerance:g}",
        "warmup": args.warmup,
        "steps": args.steps,
        "matmul_rate": rate,
        "refresh": refreshes,
        "dom_sgd_step": steps,
        "rows": rows,
    }


def device_table(result: dict[str, Any], about: dict[str, Any]) -> str:
    """Markdown."""
    lines = [
        "# Refreshes and steps on one device",
        "",
        f"`python benchmarks/curvature.py --device …` on {result['device']} ({about['cpu']}, {about['threads']} "
        f"thread(s)), torch {about['torch']}, float32. {result['problem']}; refreshes after {result['warmup']} SGD "
        f"steps, medians over {result['steps']}; Dom-SGD steps (a refresh each) from the initialisation, means over "
        f"{result['steps']}, its first, cold, among them. Floor: the operations of the matrix products, counted, at "
        f"the best rate of a float32 product measured in the same run, {result['matmul_rate'] / 1e9:,.0f} GFLOP/s.",
        "",
        "| | ms | floor, ms | ratio | products | GFLOP |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for name, key in (("warm refresh", "refresh"), ("Dom-SGD step", "dom_sgd_step")):
        r = result[key]
        lines.append(
            f"| {name} | {1e3 * r['seconds']:.2f} | {1e3 * r['floor']:.2f} | {r['seconds'] / r['floor']:.1f} | "
            f"{r['products']:.1f} | {r['operations'] / 1e9:.2f} |"
        )
    return "\n".join([*lines, ""])


def refresh_table(result: dict[str, Any]) -> str:
    lines = [
        f"{result['problem']} (P = {result['P']:,}, loss {result['loss']:.3f}, "
        f"λ_10/λ_11 = {result['eigenvalues'][9] / result['eigenvalues'][10]:.2f})",
        "",
        "| method | products | CPU time, ms | wall time, ms | products, relative | CPU time, relative "
        "| 1 − overlap, mean | 1 − overlap, worst | worst relative error of λ |",
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    for name, m in result["methods"].items():
        steps = f" (first {m['steps']} steps)" if m["steps"] != max(
            x["steps"] for x in result["methods"].values()
        ) else ""  # fmt: skip
        lines.append(
            f"| {name}{steps} | {m['products']:.1f} | {1e3 * m['cpu']:.0f} | {1e3 * m['wall']:.0f} | "
            f"{m['products_relative']:.2f} | {m['cpu_relative']:.2f} | {max(0, 1 - m['overlap_mean']):.1e} | "
            f"{max(0, 1 - m['overlap_worst']):.1e} | {m['eigenvalue_error_worst']:.1e} |"
        )
    return "\n".join(lines).replace("nan", "–")


def product_table(table: list[dict[str, Any]]) -> str:
    lines = [
        "| problem | vectors | gradient, ms | H | H_o | H_f | joint | joint / separate | curvlinops H "
        "| curvlinops H_o |",
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    for row in table:
        for count in (1, 10):
            cells = [
                f"{row[key]:.2f}" if (key := f"{label}_{count}") in row else "–"
                for label in (
                    "H",
                    "H_o",
                    "H_f",
                    "joint",
                    "joint_to_separate",
                    "curvlinops_H",
                    "curvlinops_H_o",
                )
            ]
            lines.append(f"| {row['problem']} | {count} | {1e3 * row['gradient_seconds']:.1f} | {' | '.join(cells)} |")
    return "\n".join(lines)


def plot(results: list[dict[str, Any]], path: Path) -> None:
    """Cost against error of every method, one panel a problem."""
    figure, axes = plt.subplots(1, len(results), figsize=(6 * len(results), 4.2), layout="constrained", squeeze=False)
    for axis, result in zip(axes[0], results, strict=True):
        for i, (name, m) in enumerate(result["methods"].items()):
            error = max(1e-7, 1 - m["overlap_mean"])
            axis.loglog(m["cpu_relative"], error, "o" if name.startswith("ours") else "s", color=f"C{i}", label=name)
        axis.axhline(1e-3, color="0.7", lw=1)
        axis.axvline(0.4, color="0.7", lw=1, ls="--")
        axis.set(
            xlabel="CPU time of a refresh, relative to SciPy eigsh",
            ylabel="1 − overlap",
            title=result["problem"],
        )
        axis.title.set_fontsize(9)
        axis.xaxis.set_minor_formatter(mpl.ticker.NullFormatter())
        axis.set_xticks([0.2, 0.4, 1, 2, 3], ["0.2", "0.4", "1", "2", "3"])
    axes[0][-1].legend(fontsize=7)
    figure.savefig(path, dpi=120, metadata={"Software": None})


def main() -> None:
    parser = argparse.ArgumentParser(description="Benchmark of the curvature engine.")
    parser.add_argument("--data-dir", type=Path, required=True, help="folder with MNIST/raw/*-ubyte")
    parser.add_argument("--out", type=Path, default=Path("docs/benchmarks"))
    parser.add_argument("--steps", type=int, default=20, help="consecutive SGD steps")
    parser.add_argument("--slow-steps", type=int, default=3, help="steps for PyHessian and curvlinops")
    parser.add_argument("--warmup", type=int, default=2000, help="SGD steps before")
    parser.add_argument("--lr", type=float, default=0.01)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--device", help="time our own engine on this device alone: cpu, cuda")
    parser.add_argument("--examples", type=int, default=5000, help="with --device: images")
    parser.add_argument("--tolerance", type=float, default=0.05, help="with --device: of the eigenpairs")
    args = parser.parse_args()
    fixed = {name: str(args.threads) for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")}
    if any(os.environ.get(name) != value for name, value in fixed.items()):
        # NumPy's and SciPy's BLAS read these when they load; their idle threads would count as CPU time.
        os.execve(sys.executable, [sys.executable, *sys.argv], os.environ | fixed)
    torch.set_num_threads(args.threads)
    about = environment(args)
    if args.device is not None:
        found = on_device(args)
        text, name = device_table(found, about), f"device-{args.device.partition(':')[0]}"
        args.out.mkdir(parents=True, exist_ok=True)
        (args.out / f"{name}.md").write_text(text)
        (args.out / f"{name}.json").write_text(json.dumps({"environment": about, **found}, indent=1) + "\n")
        print(text)
        return
    results = [refreshes(args, 200, 5000), refreshes(args, 32, 1000)]
    products = product_costs(args)
    args.out.mkdir(parents=True, exist_ok=True)
    text = "\n\n".join([
        "# Curvature benchmark",
        f"`python benchmarks/curvature.py` on {about['cpu']}, {about['threads']} thread(s), "
        f"torch {about['torch']}, float32. Written by the script; the raw numbers are in `curvature.json`.",
        "## Refresh of the 10 leading eigenvectors along consecutive SGD steps",
        "Medians over the steps; relative to SciPy's `eigsh` at the same θ. Overlap is with tight "
        "eigenvectors (residuals below 1e-4 λ_10). PyHessian counts no products. LOBPCG stops only when its two "
        "guard vectors have converged too, after ten iterations at most; Chebyshev is one filter of degree 2 at a "
        "time; neither was tuned.",
        *(refresh_table(result) for result in results),
        "![Cost against error](curvature.png)",
        "## Products",
        "CPU time per vector at a new θ, in units of one full gradient; `joint` gives all three.",
        product_table(products),
        "",
    ])  # fmt: skip
    (args.out / "curvature.md").write_text(text)
    record = {"environment": about, "refreshes": results, "products": products}
    (args.out / "curvature.json").write_text(json.dumps(record, indent=1) + "\n")
    plot(results, args.out / "curvature.png")
    print(text)


if __name__ == "__main__":
    main()
