"""The problem of each setting: its model and data with a profile's numbers."""

from __future__ import annotations

from typing import cast

from analysis.data.catalogue import describe, names
from analysis.plan import config
from analysis.plan.mistakes import Mistakes
from analysis.plan.yaml import suggest, validate
from analysis.specs import DataSpec, ModelNumbers, ProblemSpec
from analysis.specs.kinds import MODELS, numbers_of
from sharpflat.errors import InputError


def problem_of(
    setting: str, entry: config.Setting, numbers: config.SettingNumbers, profile_path: str, mistakes: Mistakes
) -> ProblemSpec | None:
    """The problem of a setting; None, with a mistake added, if there is none."""
    return _Problem(setting, entry, numbers, profile_path, mistakes).join()


def parameter_count(problem: ProblemSpec, vocabulary: int = 0) -> int:
    """P of a problem's model, without building it. For text, it is a lower bound unless the vocabulary's size is given.

    Raises:
        ValueError: the model does not fit the data or the loss. The message says why.
    """
    info, model, pooling = describe(problem.data.train), problem.model, problem.data.pooling
    toy = model.takes == "toy"
    if toy != (problem.loss == "value"):
        takes = "value" if toy else "mse or cross_entropy"
        raise ValueError(f"the loss of a {model.kind} is {takes}; the setting's is {problem.loss}")
    if info.kind != model.takes:
        raise ValueError(f"a {model.kind} takes {model.takes} data; {problem.data.train} is {info.kind}")
    if toy:
        return model.parameter_count((1,), info.classes)
    if model.takes == "text":
        return model.parameter_count((vocabulary, problem.data.max_length), info.classes)
    channels, rows, columns = (1, *info.shape)[-3:]
    rows, columns = rows // pooling, columns // pooling
    if rows * columns == 0:
        raise ValueError(f"data.pooling averages {pooling} × {pooling} pixels, which leaves nothing of the images")
    return model.parameter_count((channels, rows, columns), info.classes)


class _Problem:
    def __init__(
        self, setting: str, entry: config.Setting, numbers: config.SettingNumbers, profile_path: str, mistakes: Mistakes
    ) -> None:
        self.key, self.entry, self.numbers = f"settings.{setting}", entry, numbers
        self.profile_path, self.mistakes = profile_path, mistakes

    def _wrong(self, key: str, message: str) -> None:
        self.mistakes.add(self.profile_path, f"{self.key}.{key}", message)

    def join(self) -> ProblemSpec | None:
        numbers = self.numbers
        data, model = self._data(), self._model()
        if data is None or model is None:
            return None
        self._check_holdouts(data)
        k = numbers.k or describe(data.train).classes
        data = data.model_copy(update={"holdout": numbers.holdout})
        problem = ProblemSpec(data=data, model=model, loss=self.entry.loss, k=k, dtype=numbers.dtype)
        try:
            parameters = parameter_count(problem)
        except ValueError as error:
            self._wrong("model", str(error))
            return None
        dimensions = [("k", k)]
        for name, segment in numbers.segments.items():
            dimensions += [(f"segments.{name}.values.k", varied) for varied in segment.values.k or ()]
        for key, dimension in dimensions:
            if dimension > parameters:
                self._wrong(key, f"found {dimension}; at most the number of parameters, {parameters}")
        return problem

    def _model(self) -> ModelNumbers | None:
        kind, given = self.entry.model, self.numbers.model
        sizes = {"kind": kind, **{name: value for name, value in given.items() if name != "kind"}}
        try:
            model = validate(sizes, numbers_of(MODELS, kind), self.profile_path, f"{self.key}.model")
        except InputError as error:
            self.mistakes.extend(error)
            return None
        if "kind" in given:
            self._wrong("model.kind", "unknown key; the model is chosen in experiments.yaml")
            return None
        return cast("ModelNumbers", model)

    def _check_holdouts(self, data: DataSpec) -> None:
        holdouts = [("holdout", self.numbers.holdout)]
        for name, segment in self.numbers.segments.items():
            holdouts += [(f"segments.{name}.values.holdout", varied) for varied in segment.values.holdout or ()]
        for key, holdout in holdouts:
            trained = data.examples - holdout
            if trained < 1:
                message = f"found {holdout}; fewer than the examples, {data.examples}, some of which must be trained on"
                self._wrong(key, message)
            else:
                self._check_batch("batch_size", self.numbers.batch_size, trained)
        for name, segment in self.numbers.segments.items():
            trained = data.examples - max(segment.values.holdout or (self.numbers.holdout,))
            for size in segment.values.batch_size or ():
                self._check_batch(f"segments.{name}.values.batch_size", size, trained)

    def _check_batch(self, key: str, size: int, trained: int) -> None:
        if size > trained:
            self._wrong(key, f"found {size}; at most the number of training examples, {trained}")

    def _data(self) -> DataSpec | None:
        data = self.numbers.data
        counts: dict[str, int] = {}
        for part, subset, wanted in (("train", data.train, data.examples), ("test", data.test, data.test_examples)):
            if subset not in names():
                self._wrong(f"data.{part}", f"unknown subset {subset!r}{suggest(subset, list(names()))}")
                return None
            split, available = describe(subset).split, describe(subset).examples
            if split != part and describe(subset).kind != "toy":  # which has nothing to be tested on
                allowed = ", ".join(name for name in names() if describe(name).split == part)
                self._wrong(f"data.{part}", f"{subset} is a {split} split; allowed: {allowed}")
                return None
            count_key = "examples" if part == "train" else "test_examples"
            if wanted is not None and wanted > available:
                self._wrong(f"data.{count_key}", f"found {wanted}; {subset} has {available} examples")
                return None
            counts[count_key] = wanted or available
        train, test = describe(data.train), describe(data.test)
        if (train.kind, train.classes) != (test.kind, test.classes):
            self._wrong("data.test", f"{data.test} is no test split for {data.train}")
            return None
        if data.scaling == "pixel-all" and not train.collection:
            allowed = ", ".join(name for name in names() if describe(name).collection)
            message = f"pixel-all needs statistics of a whole collection; {data.train} has none; allowed: {allowed}"
            self._wrong("data.scaling", message)
            return None
        return DataSpec(
            train=data.train,
            train_sha256=train.sha256,
            test=data.test,
            test_sha256=test.sha256,
            scaling=data.scaling,
            pooling=data.pooling,
            max_length=data.max_length,
            **counts,
        )
