"""Models: initialisation equals PyTorch's own, the transformer equals torch.nn's, sizes equal the built models'."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from analysis.data.catalogue import describe
from analysis.models import build
from analysis.models.initialise import initialise
from analysis.models.sizes import parameter_count
from analysis.specs import CNNSpec, DataSpec, MLPSpec, ProblemSpec, QuadraticSpec, TransformerSpec, ValleySpec


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


@pytest.mark.parametrize(
    ("spec", "inputs", "default"),
    [
        (
            MLPSpec(width=7),
            (1, 4, 5),
            lambda: nn.Sequential(
                nn.Flatten(), nn.Linear(20, 7), nn.Tanh(), nn.Linear(7, 7), nn.Tanh(), nn.Linear(7, 3)
            ),
        ),
        (
            CNNSpec(channels=4),
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
    assert torch.equal(model(x), expected(x))


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
    spec = TransformerSpec(width=8, heads=2, layers=2, feed_forward=5)
    return build(spec, (11, length), 2, generator(), torch.float64)


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


@pytest.mark.parametrize(
    ("spec", "train"),
    [
        (MLPSpec(width=9), "mnist5k"),
        (MLPSpec(width=9, hidden_layers=3), "cifar5k"),
        (CNNSpec(channels=5), "cifar5k"),
        (CNNSpec(channels=5), "mlxtend4k"),
        (TransformerSpec(width=8, heads=2, feed_forward=16), "sst1k"),
    ],
)
def test_parameter_count_equals_the_built_model(spec, train):
    info, wanted = describe(train), problem(spec, train, max_length=12)
    inputs = (50, 12) if info.kind == "text" else (1, *info.shape)[-3:]
    model = build(spec, inputs, info.classes, generator(), torch.float32)
    vocabulary = 50 if info.kind == "text" else 0
    assert parameter_count(wanted, vocabulary) == sum(p.numel() for p in model.parameters())


def test_full_size_mlp_has_the_papers_parameters():
    assert parameter_count(problem(MLPSpec(width=200), "mnist5k")) == 199_210


@pytest.mark.parametrize(
    ("spec", "train", "message"),
    [
        (MLPSpec(width=9), "sst1k", "a mlp takes image data; sst1k is text"),
        (CNNSpec(channels=2, convolutions=6), "mnist5k", "6 poolings leave nothing of the images"),
        (TransformerSpec(width=9, heads=2, feed_forward=16), "sst1k", "multiple of the number of heads"),
        (MLPSpec(width=9), "two-sides", "a mlp takes image data; two-sides is toy"),
    ],
)
def test_sizes_that_do_not_fit_are_told(spec, train, message):
    with pytest.raises(ValueError, match=message):
        parameter_count(problem(spec, train))


@pytest.mark.parametrize("spec", [QuadraticSpec(), ValleySpec()])
def test_toys_have_two_parameters_data_and_a_loss_of_their_own(spec):
    assert parameter_count(problem(spec, "two-sides", "value")) == 2
    with pytest.raises(ValueError, match=f"a {spec.kind} takes toy data; mnist5k is image"):
        parameter_count(problem(spec, "mnist5k", "value"))
    with pytest.raises(ValueError, match=f"the loss of a {spec.kind} is value; the setting's is mse"):
        parameter_count(problem(spec, "two-sides"))
    with pytest.raises(ValueError, match="the loss of a mlp is mse or cross_entropy; the setting's is value"):
        parameter_count(problem(MLPSpec(width=9), "mnist5k", "value"))


@pytest.mark.parametrize("spec", [QuadraticSpec(start=(0.5, -3)), ValleySpec(start=(0.5, -3))])
def test_a_toy_starts_where_its_specification_says(spec):
    source = generator()
    before = source.get_state()
    model = build(spec, (1,), 1, source, torch.float64)
    assert [p.tolist() for p in model.parameters()] == [[0.5, -3]]
    assert torch.equal(source.get_state(), before), "something was drawn"
