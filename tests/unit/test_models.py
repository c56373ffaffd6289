"""Models: initialisation equals PyTorch's own, models equal torch.nn's, sizes equal the built models'."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial

import pytest
import torch
from torch import Tensor, nn

from analysis.data.catalogue import describe
from analysis.models import build
from analysis.models.cnn import Numbers as CNNNumbers
from analysis.models.encoder import Numbers as EncoderNumbers
from analysis.models.mlp import Numbers as MLPNumbers
from analysis.models.modules import transformer as transformer_module
from analysis.models.modules.initialise import initialise
from analysis.models.quadratic import Numbers as QuadraticNumbers
from analysis.models.resnet8 import Numbers as ResNetNumbers
from analysis.models.transformer import Numbers as TransformerNumbers
from analysis.models.valley import Numbers as ValleyNumbers
from analysis.models.vgg11 import Numbers as VGGNumbers
from analysis.plan.problems import parameter_count
from analysis.specs import DataSpec, ProblemSpec
from sharpflat.curvature import operators
from sharpflat.curvature.eigensolver import top_eigenspace
from sharpflat.curvature.objective import Objective
from sharpflat.curvature.operators import FunctionalHessian, GaussNewton, Hessian, joint_products


def generator(seed: int = 3) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def problem(model, train: str, loss: str = "mse", **data) -> ProblemSpec:
    counts = {"examples": 10, "test_examples": 10, **data}
    return ProblemSpec(
        data=DataSpec(train=train, train_sha256="0", test=train, test_sha256="0", **counts),
        model=model,
        loss=loss,
        k=2,
    )


def vgg11() -> nn.Module:
    """Width 2, for two channels of 8 × 8 pixels: three of configuration A's five poolings leave one pixel."""
    conv = partial(nn.Conv2d, kernel_size=3, padding=1)
    return nn.Sequential(
        conv(2, 2), nn.ReLU(), nn.MaxPool2d(2),
        conv(2, 4), nn.ReLU(), nn.MaxPool2d(2),
        conv(4, 8), nn.ReLU(), conv(8, 8), nn.ReLU(), nn.MaxPool2d(2),
        conv(8, 16), nn.ReLU(), conv(16, 16), nn.ReLU(),
        conv(16, 16), nn.ReLU(), conv(16, 16), nn.ReLU(),
        nn.Flatten(), nn.Linear(16, 16), nn.ReLU(), nn.Linear(16, 16), nn.ReLU(), nn.Linear(16, 3),
    )  # fmt: skip


class Residual(nn.Module):
    def __init__(self, straight: nn.Module, shortcut: nn.Module) -> None:
        super().__init__()
        self.straight, self.shortcut = straight, shortcut

    def forward(self, x: Tensor) -> Tensor:
        return (self.straight(x) + self.shortcut(x)).relu()


def resnet8() -> nn.Module:
    """Width 2, two channels, with torch's own group norm."""
    conv, norm = partial(nn.Conv2d, kernel_size=3, padding=1, bias=False), partial(nn.GroupNorm, 1)
    return nn.Sequential(
        conv(2, 2), norm(2), nn.ReLU(),
        Residual(nn.Sequential(conv(2, 2), norm(2), nn.ReLU(), conv(2, 2), norm(2)), nn.Identity()),
        Residual(
            nn.Sequential(conv(2, 4, stride=2), norm(4), nn.ReLU(), conv(4, 4), norm(4)),
            nn.Sequential(nn.Conv2d(2, 4, 1, stride=2, bias=False), norm(4)),
        ),
        Residual(
            nn.Sequential(conv(4, 8, stride=2), norm(8), nn.ReLU(), conv(8, 8), norm(8)),
            nn.Sequential(nn.Conv2d(4, 8, 1, stride=2, bias=False), norm(8)),
        ),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 3),
    )  # fmt: skip


@pytest.mark.parametrize(
    ("spec", "inputs", "default"),
    [
        (
            MLPNumbers(width=7),
            (1, 4, 5),
            lambda: nn.Sequential(
                nn.Flatten(), nn.Linear(20, 7), nn.Tanh(), nn.Linear(7, 7), nn.Tanh(), nn.Linear(7, 3)
            ),
        ),
        (
            CNNNumbers(channels=4),
            (3, 8, 8),
            lambda: nn.Sequential(
                nn.Conv2d(3, 4, 3, padding=1),
                nn.ReLU(),
                nn.MaxPool2d(2),
                nn.Conv2d(4, 4, 3, padding=1),
                nn.ReLU(),
                nn.MaxPool2d(2),
                nn.Flatten(),
                nn.Linear(16, 3),
            ),
        ),
        (VGGNumbers(width=2), (2, 8, 8), vgg11),
        (ResNetNumbers(width=2), (2, 8, 8), resnet8),
    ],
)
def test_initialisation_is_pytorchs_own_bit_for_bit(spec, inputs, default):
    with torch.random.fork_rng():
        torch.random.default_generator.manual_seed(3)
        expected = default()
    before = torch.random.get_rng_state()
    model = build(spec, inputs, 3, generator(), torch.float32)
    assert torch.equal(before, torch.random.get_rng_state()), "the global generator was used"
    for a, b in zip(model.parameters(), expected.parameters(), strict=True):
        assert torch.equal(a, b)
    x = torch.randn(2, *inputs, generator=generator(1))
    if isinstance(spec, ResNetNumbers):  # its normalisation is written out
        torch.testing.assert_close(model(x), expected(x))
    else:
        assert torch.equal(model(x), expected(x))


def test_he_initialisation_of_vgg11_is_the_edge_of_stability_codes_bit_for_bit():
    with torch.random.fork_rng():
        torch.random.default_generator.manual_seed(3)
        expected = vgg11()
        for module in expected:
            if isinstance(module, nn.Conv2d):
                n = 3 * 3 * module.weight.shape[0]
                module.weight.data.normal_(0, (2 / n) ** 0.5)
                module.bias.data.zero_()
    model = build(VGGNumbers(width=2, initialisation="he"), (2, 8, 8), 3, generator(), torch.float32)
    for a, b in zip(model.parameters(), expected.parameters(), strict=True):
        assert torch.equal(a, b)


def test_attention_initialisation_is_pytorchs_own_bit_for_bit():
    with torch.random.fork_rng():
        torch.random.default_generator.manual_seed(3)
        expected = nn.MultiheadAttention(8, 2, batch_first=True)
    model = nn.MultiheadAttention(8, 2, batch_first=True)
    initialise(model, generator())
    for a, b in zip(model.parameters(), expected.parameters(), strict=True):
        assert torch.equal(a, b)


def test_initialisation_refuses_a_module_it_does_not_know():
    with pytest.raises(TypeError, match="1 \\(PReLU\\)"):
        initialise(nn.Sequential(nn.Linear(2, 2), nn.PReLU()), generator())


def transformer(length: int = 6) -> nn.Module:
    spec = TransformerNumbers(width=8, heads=2, layers=2, feed_forward=5)
    return build(spec, (11, length), 2, generator(), torch.float64)


@pytest.mark.slow
def test_transformer_equals_torchs_encoder():
    model = transformer()
    tokens = torch.tensor([[2, 3, 4, 0, 0, 0], [5, 6, 7, 8, 9, 10], [1, 0, 0, 0, 0, 0]])
    encoder = nn.TransformerEncoder(
        nn.TransformerEncoderLayer(8, 2, 5, dropout=0.0, batch_first=True, dtype=torch.float64),
        2,
        enable_nested_tensor=False,
    )
    theirs = ("norm1.", "norm2.", "self_attn.", "linear1.", "linear2.")
    ours = ("norm_attention.", "norm_feed_forward.", "attention.", "expand.", "contract.")
    state = model.layers.state_dict()
    for a, b in zip(ours, theirs, strict=True):
        state = {k.replace(a, b): v for k, v in state.items()}
    encoder.layers.load_state_dict(state)
    x = torch.cat([model.class_token.weight.expand(3, 1, -1), model.words(tokens)], 1) + model.positions.weight
    mask = torch.cat([torch.zeros(3, 1, dtype=torch.bool), tokens == 0], 1)
    expected = model.readout(encoder(x, src_key_padding_mask=mask)[:, 0])
    torch.testing.assert_close(model(tokens), expected, rtol=1e-12, atol=1e-12)


def test_padding_changes_nothing():
    model = transformer()
    short = torch.tensor([[2, 3, 4]])
    torch.testing.assert_close(model(short), model(torch.tensor([[2, 3, 4, 0, 0, 0]])), rtol=1e-12, atol=1e-12)


def test_transformer_has_second_derivatives():
    model = transformer()
    x = torch.tensor([[2, 3, 4, 0, 0, 0]])
    weight = model.layers[0].attention.in_proj_weight
    (gradient,) = torch.autograd.grad(model(x).square().sum(), weight, create_graph=True)
    (second,) = torch.autograd.grad(gradient.square().sum(), weight)
    assert second.abs().max() > 0


class Published(nn.Module):
    """The encoder of torch.nn, with fixed sinusoids, masked keys and the mean over all positions."""

    def __init__(self, vocabulary: int, width: int, heads: int, feed_forward: int, dtype: torch.dtype) -> None:
        super().__init__()
        self.words = nn.Embedding(vocabulary, width, dtype=dtype)
        layer = nn.TransformerEncoderLayer(width, heads, feed_forward, dropout=0.0, batch_first=True, dtype=dtype)
        self.encoder = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        self.readout = nn.Linear(width, 2, dtype=dtype)

    def forward(self, tokens: Tensor) -> Tensor:
        x = self.words(tokens)
        for t in range(x.shape[1]):
            for i in range(x.shape[2]):
                angle = t / 10000 ** ((i - i % 2) / x.shape[2])
                x[:, t, i] += math.cos(angle) if i % 2 else math.sin(angle)
        return self.readout(self.encoder(x, src_key_padding_mask=tokens == 0).mean(1))


TOKENS = torch.tensor([[2, 3, 4, 0, 0, 0], [5, 6, 7, 8, 0, 0], [1, 0, 0, 0, 0, 0]])  # nobody's key: the last two


def encoders(dtype: torch.dtype) -> tuple[nn.Module, Published]:
    """Ours, and torch's built after seeding the global generator alike."""
    with torch.random.fork_rng():
        torch.random.default_generator.manual_seed(3)
        expected = Published(11, 8, 2, 5, dtype)
    return build(EncoderNumbers(width=8, heads=2, feed_forward=5), (11, 6), 2, generator(), dtype), expected


def test_encoder_starts_as_torchs_own_bit_for_bit():
    model, expected = encoders(torch.float32)
    for a, b in zip(model.parameters(), expected.parameters(), strict=True):
        assert torch.equal(a, b)
    first, second = model.layers
    for a, b in zip(first.parameters(), second.parameters(), strict=True):
        assert torch.equal(a, b)
        assert a is not b


@pytest.mark.parametrize("hidden", [transformer_module.HIDDEN, 35], ids=["at once", "in pieces of 7 positions"])
def test_encoder_equals_torchs_own_with_its_derivatives(hidden, monkeypatch):
    monkeypatch.setattr(transformer_module, "HIDDEN", hidden)
    model, expected = encoders(torch.float64)
    labels, loss = torch.tensor([0, 1, 1]), nn.functional.mse_loss
    for p, q in zip(model.parameters(), expected.parameters(), strict=True):  # so that the layers are apart
        p.data += 0.1 * torch.randn(p.shape, dtype=p.dtype, generator=generator(p.numel()))
        q.data.copy_(p.data)
    close = partial(torch.testing.assert_close, rtol=1e-10, atol=1e-12)
    with torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH):  # others have no second derivatives
        outputs = expected(TOKENS)
    close(model(TOKENS), outputs)
    objective = Objective(model, "mse", TOKENS, labels, chunk_size=2)
    v = torch.randn(objective.size, dtype=torch.float64, generator=generator(4))
    parameters = list(expected.parameters())
    share = loss(outputs, nn.functional.one_hot(labels, 2).double(), reduction="sum") / (2 * len(labels))
    gradient = torch.cat([p.flatten() for p in torch.autograd.grad(share, parameters, create_graph=True)])
    product = torch.cat([p.flatten() for p in torch.autograd.grad(gradient @ v, parameters)])
    close(objective.gradient(objective.theta), gradient.detach())
    operator = Hessian(objective, objective.theta)
    close(operator.matvec(v), product)
    close(operator.matmat(torch.stack([v, -2 * v], dim=1)), torch.stack([product, -2 * product], dim=1))
    assert operator._products._batches, "an operation could not be batched"


def test_rows_that_no_example_uses_need_not_be_parameters():
    """θ without them: the same initial values, loss, gradient, eigenvalues, and outputs of ids that are not used."""
    numbers = EncoderNumbers(width=8, heads=2, feed_forward=5)
    whole, part = (
        build(numbers.model_copy(update={"embedding": rows}), (11, 6), 2, generator(), torch.float64)
        for rows in ("all", "used")
    )
    tokens = torch.where(TOKENS == 3, 9, TOKENS)  # rows in the middle are not used
    used = tokens.unique()
    for model in (whole, part):
        model.train_on(tokens)
    kept = torch.cat(
        [
            torch.isin(torch.arange(11), used).repeat_interleave(8),
            torch.ones(sum(p.numel() for p in whole.parameters()) - 88, dtype=bool),
        ]
    )
    assert not bool(kept.all())
    objectives = [Objective(model, "mse", tokens, torch.tensor([0, 1, 1])) for model in (whole, part)]
    thetas = [objective.theta for objective in objectives]
    assert torch.equal(thetas[0][kept], thetas[1])
    (value, gradient), (part_value, part_gradient) = (
        objective.value_and_gradient(theta) for objective, theta in zip(objectives, thetas, strict=True)
    )
    close = partial(torch.testing.assert_close, rtol=1e-10, atol=1e-13)
    close(part_value, value)
    close(part_gradient, gradient[kept])
    assert not bool(gradient[~kept].any())
    spectra = [
        top_eigenspace(Hessian(objective, theta), 2, tolerance=1e-9).eigenvalues
        for objective, theta in zip(objectives, thetas, strict=True)
    ]
    torch.testing.assert_close(*spectra, rtol=1e-8, atol=0)
    others = torch.tensor([[9, 10, 3, 2, 0, 0]])
    close(part(others), whole(others))


def test_encoder_counts_padding_in_the_mean_and_not_as_keys():
    model, _ = encoders(torch.float64)
    shorter, longer = TOKENS[:, :5], TOKENS
    close = partial(torch.testing.assert_close, rtol=1e-12, atol=1e-12)
    close(model(TOKENS[:1]), model(TOKENS)[:1])  # whose keys are cut at another position
    assert not torch.allclose(model(shorter), model(longer)), "positions of padding must count"
    elsewhere = model(TOKENS)
    model.words.weight.data[0] += 1
    assert not torch.allclose(model(TOKENS), elsewhere), "the padding's own embedding must count"


@pytest.mark.parametrize("width", [3, 4])
def test_sinusoids_of_any_width(width):
    model = build(EncoderNumbers(width=width, heads=1, feed_forward=2), (4, 3), 2, generator(), torch.float64)
    assert model.positions.table[0].tolist() == [0.0, 1.0, 0.0, 1.0][:width]
    assert float(model.positions.table[2, 1]) == pytest.approx(math.cos(2))


@pytest.mark.parametrize(("side", "poolings"), [(64, 5), (32, 5), (28, 4), (14, 3), (2, 1), (1, 0)])
def test_vgg11_leaves_out_poolings_that_would_leave_nothing(side, poolings):
    model = build(VGGNumbers(width=1), (3, side, side), 4, generator(), torch.float32)
    assert sum(isinstance(m, nn.MaxPool2d) for m in model) == poolings
    assert sum(isinstance(m, nn.Conv2d | nn.Linear) for m in model) == 11
    assert model(torch.zeros(5, 3, side, side)).shape == (5, 4)


@pytest.mark.parametrize("side", [32, 14, 1])
def test_resnet8_takes_images_of_any_size_one_by_one(side):
    model = build(ResNetNumbers(width=3), (2, side, side), 4, generator(), torch.float64)
    x = torch.rand(5, 2, side, side, generator=generator()).double()
    assert model(x).shape == (5, 4)
    torch.testing.assert_close(model(x), torch.cat([model(one[None]) for one in x]), rtol=1e-12, atol=1e-12)


class Reference:
    """Mean ½‖f − y‖² of a model at any θ by plain autograd, of which nothing but first derivatives is used."""

    def __init__(self, model: nn.Module, inputs: Tensor, targets: Tensor) -> None:
        self.model, self.inputs, self.targets = model, inputs, targets

    def outputs(self, theta: Tensor) -> Tensor:
        nn.utils.vector_to_parameters(theta, self.model.parameters())
        return self.model(self.inputs)

    def pull(self, theta: Tensor, cotangent: Callable[[Tensor], Tensor]) -> Tensor:
        """Jᵀ of the cotangents [N, C] that go with the outputs, averaged over the examples."""
        outputs = self.outputs(theta)
        parts = torch.autograd.grad(outputs, list(self.model.parameters()), cotangent(outputs.detach()))
        return torch.cat([p.flatten() for p in parts]) / len(self.inputs)

    def gradient(self, theta: Tensor) -> Tensor:
        return self.pull(theta, lambda f: f - self.targets)


@pytest.mark.parametrize("together", [True, False], ids=["blocks", "one by one"])
@pytest.mark.parametrize("chunk_size", [None, 3], ids=["whole", "ragged"])
@pytest.mark.parametrize(("spec", "default"), [(VGGNumbers(width=2), vgg11), (ResNetNumbers(width=2), resnet8)])
def test_curvature_products_are_differences_of_gradients(spec, default, chunk_size, together, monkeypatch):
    """Central differences, whose step is too small to meet a kink of a ReLU or a max-pool here."""
    monkeypatch.setattr(operators, "_BLOCK_BYTES", 1 << 40 if together else 0)
    g, h = generator(0), 1e-6
    model = build(spec, (2, 8, 8), 3, g, torch.float64)
    for p in model.parameters():  # so that the signal survives eleven narrow layers, and no factor is 1 by default
        scale = (2 / p[0].numel()) ** 0.5 if p.ndim > 1 else 0.2
        p.data = (p.ndim == 1) * p.data + scale * torch.randn(p.shape, dtype=p.dtype, generator=g)
    inputs, labels = torch.randn(7, 2, 8, 8, dtype=torch.float64, generator=g), torch.arange(7) % 3
    objective = Objective(model, "mse", inputs, labels, chunk_size=chunk_size)
    theta = objective.theta
    V = torch.linalg.qr(torch.randn(len(theta), 3, dtype=torch.float64, generator=g))[0]

    with torch.random.fork_rng():
        reference = Reference(default().double(), inputs, nn.functional.one_hot(labels, 3))
    columns = []
    for v in V.T:
        bent = (reference.gradient(theta + h * v) - reference.gradient(theta - h * v)) / (2 * h)
        pushed = (reference.outputs(theta + h * v) - reference.outputs(theta - h * v)).detach() / (2 * h)
        columns.append((bent, reference.pull(theta, lambda _, pushed=pushed: pushed)))
    H, outer = (torch.stack(c, dim=1) for c in zip(*columns, strict=True))
    for piece in (H - outer).split(objective.vector.lengths)[:-1]:  # outputs are linear in the last bias
        assert float(piece.abs().max()) > 1e-4, "the test needs a functional part everywhere"

    close = partial(torch.testing.assert_close, rtol=0, atol=1e-7 * float(H.abs().max()))
    close(objective.gradient(theta)[:, None], reference.gradient(theta)[:, None])
    expected = [H, outer, H - outer]
    for kind, product in zip((Hessian, GaussNewton, FunctionalHessian), expected, strict=True):
        operator = kind(objective, theta)
        close(operator.matmat(V), product)
        assert operator._products._batches, "an operation could not be batched"
    for joint, product in zip(joint_products(objective, theta, V), expected, strict=True):
        close(joint, product)


@pytest.mark.parametrize(
    ("spec", "train"),
    [
        (MLPNumbers(width=9), "mnist5k"),
        (MLPNumbers(width=9, hidden_layers=3), "cifar5k"),
        (CNNNumbers(channels=5), "cifar5k"),
        (CNNNumbers(channels=5), "mlxtend4k"),
        (TransformerNumbers(width=8, heads=2, feed_forward=16), "sst1k"),
        (EncoderNumbers(width=8, heads=2, feed_forward=16), "sst1k"),
        (VGGNumbers(width=3), "cifar5k"),
        (VGGNumbers(width=3), "mlxtend4k"),
        (ResNetNumbers(width=3), "cifar5k"),
        (ResNetNumbers(width=3), "mlxtend4k"),
    ],
)
@pytest.mark.parametrize("pooling", [1, 2])
def test_parameter_count_equals_the_built_model(spec, train, pooling):
    info, wanted = describe(train), problem(spec, train, max_length=12, pooling=pooling)
    channels, rows, columns = (0, 0, 0) if info.kind == "text" else (1, *info.shape)[-3:]
    inputs = (50, 12) if info.kind == "text" else (channels, rows // pooling, columns // pooling)
    model = build(spec, inputs, info.classes, generator(), torch.float32)
    vocabulary = 50 if info.kind == "text" else 0
    assert parameter_count(wanted, vocabulary) == sum(p.numel() for p in model.parameters())


def test_full_size_mlp_has_the_papers_parameters():
    assert parameter_count(problem(MLPNumbers(width=200), "mnist5k")) == 199_210


def test_parameters_of_the_full_size_networks_counted_by_hand():
    encoder = problem(EncoderNumbers(width=64, heads=8, feed_forward=2048), "sst1k-wordpiece", max_length=66)
    assert parameter_count(encoder, 30522) == 2_515_842
    assert parameter_count(encoder, describe("sst1k-wordpiece").words) == 2_515_842 - 27_269 * 64
    convolutions = 132_863_336 - (512 * 49 + 1) * 4096 - 4097 * 4096 - 4097 * 1000  # VGG11's but ImageNet's classifier
    classifier = 2 * (512 + 1) * 512 + (512 + 1) * 10
    assert parameter_count(problem(VGGNumbers(width=64), "cifar5k")) == convolutions + classifier
    squares = 3 * 16 + 2 * 16 * 16 + 16 * 32 + 32 * 32 + 32 * 64 + 64 * 64
    shortcuts, norms = 16 * 32 + 32 * 64, 2 * (3 * 16 + 3 * 32 + 3 * 64)
    assert parameter_count(problem(ResNetNumbers(width=16), "cifar5k")) == 9 * squares + shortcuts + norms + 650


@pytest.mark.parametrize(
    ("spec", "train", "message"),
    [
        (MLPNumbers(width=9), "sst1k", "a mlp takes image data; sst1k is text"),
        (CNNNumbers(channels=2, convolutions=6), "mnist5k", "6 poolings leave nothing of the images"),
        (TransformerNumbers(width=9, heads=2, feed_forward=16), "sst1k", "multiple of the number of heads"),
        (EncoderNumbers(width=9, heads=2, feed_forward=16), "sst1k-wordpiece", "multiple of the number of heads"),
        (MLPNumbers(width=9), "two-sides", "a mlp takes image data; two-sides is toy"),
        (VGGNumbers(width=2), "sst1k", "a vgg11 takes image data; sst1k is text"),
        (ResNetNumbers(width=2), "polarity1k", "a resnet8 takes image data; polarity1k is text"),
    ],
)
def test_sizes_that_do_not_fit_are_told(spec, train, message):
    with pytest.raises(ValueError, match=message):
        parameter_count(problem(spec, train))


@pytest.mark.parametrize("spec", [QuadraticNumbers(), ValleyNumbers()])
def test_toys_have_two_parameters_data_and_a_loss_of_their_own(spec):
    assert parameter_count(problem(spec, "two-sides", "value")) == 2
    with pytest.raises(ValueError, match=f"a {spec.kind} takes toy data; mnist5k is image"):
        parameter_count(problem(spec, "mnist5k", "value"))
    with pytest.raises(ValueError, match=f"the loss of a {spec.kind} is value; the setting's is mse"):
        parameter_count(problem(spec, "two-sides"))
    with pytest.raises(ValueError, match="the loss of a mlp is mse or cross_entropy; the setting's is value"):
        parameter_count(problem(MLPNumbers(width=9), "mnist5k", "value"))


@pytest.mark.parametrize("spec", [QuadraticNumbers(start=(0.5, -3)), ValleyNumbers(start=(0.5, -3))])
def test_a_toy_starts_where_its_specification_says(spec):
    source = generator()
    before = source.get_state()
    model = build(spec, (1,), 1, source, torch.float64)
    assert [p.tolist() for p in model.parameters()] == [[0.5, -3]]
    assert torch.equal(source.get_state(), before), "something was drawn"


@pytest.mark.parametrize("spec", [MLPNumbers(width=2), VGGNumbers(width=2), ResNetNumbers(width=2)])
def test_images_averaged_away_are_told(spec):
    with pytest.raises(ValueError, match=r"data\.pooling averages 29 × 29 pixels, which leaves nothing of the images"):
        parameter_count(problem(spec, "mlxtend4k", pooling=29))
