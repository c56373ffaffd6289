"""Both models for text, on words and on ids of a fixed vocabulary, through the training loop."""

from __future__ import annotations

import numpy as np
import pytest
import xarray as xr

from analysis.data import load
from analysis.models.encoder import Numbers as EncoderNumbers
from analysis.models.transformer import Numbers as TransformerNumbers
from analysis.plan.join import load_plan
from analysis.plan.problems import parameter_count
from analysis.rules.sgd import Numbers as SGDNumbers
from analysis.specs import DataSpec, ModelNumbers, ProblemSpec, SegmentSpec, StopSpec
from analysis.training.problem import make_problem
from analysis.training.segment import train_segment
from tests.specs import probes
from tests.unit.test_config import EXPERIMENTS, changed, write

SIZES = {"width": 4, "heads": 2, "feed_forward": 4}
MODELS = [TransformerNumbers(**SIZES), EncoderNumbers(**SIZES), EncoderNumbers(**SIZES, embedding="used")]


def sentences() -> tuple[xr.Dataset, xr.Dataset]:
    return load("polarity1k"), load("polarity-test500")


def ids() -> tuple[xr.Dataset, xr.Dataset]:
    random, parts = np.random.default_rng(0), []
    for _ in range(2):
        table = random.integers(1, 30, size=(20, 12), dtype=np.int32)
        table[np.arange(12) >= random.integers(2, 10, size=20)[:, None]] = 0
        labels = (np.arange(20) % 2).astype(np.uint8)
        attributes = {"name": "ids", "title": "ids", "classes": 2, "vocabulary": 30, "sha256": "0"}
        parts.append(
            xr.Dataset({"ids": (("example", "position"), table), "labels": ("example", labels)}, attrs=attributes)
        )
    return parts[0], parts[1]


@pytest.mark.parametrize("model", MODELS, ids=["transformer", "encoder", "encoder, used rows"])
@pytest.mark.parametrize("data", [sentences, ids])
def test_a_text_model_trains(model: ModelNumbers, data: object) -> None:
    train, test = data()  # type: ignore[operator]
    numbers = DataSpec(
        train="polarity1k", train_sha256="0", examples=20, test="polarity-test500", test_sha256="0", test_examples=10,
        max_length=16,
    )  # fmt: skip
    problem = ProblemSpec(data=numbers, model=model, loss="mse", k=2)
    spec = SegmentSpec(
        problem=problem,
        seed=0,
        rule=SGDNumbers(learning_rate=0.05, batch_size=5),
        filter=None,
        stop=StopSpec(steps=12),
        probes=probes(loss=4, test=12, spectrum=12),
        parent=None,
    )
    losses = train_segment(spec, "x", train, test, None).trajectory["loss"].values
    assert losses[-1] < losses[0]
    made = make_problem(problem, train, test, 0)
    vocabulary = made.training.inputs.unique().numel()
    if getattr(model, "embedding", "all") == "all":
        vocabulary = made.training.model.words.num_embeddings
    assert made.training.size == parameter_count(problem, vocabulary)


@pytest.mark.parametrize("model", ["transformer", "encoder"])
def test_a_setting_can_have_either(model: str, tmp_path) -> None:  # type: ignore[no-untyped-def]
    write(tmp_path, experiments=changed(EXPERIMENTS, "settings/text/model", model))
    plan = load_plan("small", tmp_path)
    assert model in {segment.spec.problem.model.kind for segment in plan.segments.values()}
