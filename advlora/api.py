"""The method in four calls, for notebooks and scripts: load a model, adapt it, attack it, evaluate it.

What runs here is what runs in a study; a study adds search, seeds, tracking and statistics (`advlora_platform`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Literal

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, normalize

from advlora import models
from advlora.adapters import AdaptedModel
from advlora.attacks import Threat, needs_surrogate, pgd
from advlora.check import check_evaluation, check_trial
from advlora.config import DataConfig, EvaluationProtocol, ModelConfig, TrialConfig, parse, vary
from advlora.data import check_data
from advlora.errors import ConfigError
from advlora.evaluation.evaluator import Evaluator
from advlora.evaluation.zero_shot import ZeroShotClassifier
from advlora.models import VisionLanguageModel
from advlora.numerics import computing
from advlora.randomness import Streams
from advlora.training.trainer import fine_tune, restore
from advlora.training.workbench import Workbench

UNMEASURED = {"samples": {"val": 1}, "interval": 0, "guards": {"enabled": False}}
"""The least that a training measures along the way."""


def load_model(
    name: str = "tiny-clip", pretrained: str | None = None, *, source: str | None = None
) -> VisionLanguageModel:
    """Loads a pretrained model, frozen and in eval mode.

    Args:
        name: Of an embedded model, of an architecture of open_clip, `hf-hub:NAME` or `local-dir:PATH`.
        pretrained: Tag or file of an architecture's weights.
        source: `embedded`, `open_clip` or `transformers`; by default what the name is known to.

    Raises:
        ConfigError: If a value is not allowed.
        ModelError: If the model is unknown, or its weights are missing or unreadable.
    """
    source = source or ("embedded" if name in models.embedded_models() else "open_clip")
    return models.load_model(parse(ModelConfig, {"source": source, "name": name, "pretrained": pretrained}))


def adapt(settings: Mapping[str, Any] | None = None) -> AdaptedModel:
    """Adapts a pretrained model by adversarial fine-tuning, in this process, on the CPU.

    Args:
        settings: What differs from the defaults of a trial, by dotted key: `{"adapter.rank": 4, "data.train_samples":
            256, "seed": 1}`. `advlora keys` lists them.

    Returns:
        The trained model; `.model` embeds images and texts.

    Raises:
        ConfigError: If a key is unknown, a value is not allowed, or they do not fit together.
        UserError: If model or data are missing or damaged.
        Diverged: If a loss or gradient is not finite.
    """
    config = parse(TrialConfig, vary(TrialConfig, {}, settings or {}))
    if problems := check_trial(config):
        raise ConfigError(problems)
    bench, state = Workbench(), None
    for report in fine_tune(config, parse(EvaluationProtocol, UNMEASURED), bench=bench, guarded=False):
        state = report.state
    return restore(config, bench, state)


def attack(
    model: VisionLanguageModel | AdaptedModel,
    images: Tensor,
    labels: Tensor,
    texts: Sequence[str],
    *,
    epsilon: float = 8 / 255,
    norm: Literal["linf", "l2"] = "linf",
    steps: int = 10,
    step_size: float | None = None,
    seed: int = 0,
) -> Tensor:
    """Perturbs images by PGD on the cross-entropy, from a random start, so that they are taken for another class.

    Args:
        model: What is attacked.
        images: `(B, 3, H, W)` in [0, 1], at the model's size.
        labels: `(B,)`, the right classes.
        texts: One caption per class.
        epsilon: Radius of the ball, in pixels of [0, 1].
        norm: Of the ball.
        steps: Number of gradients.
        step_size: Length of a step; by default a quarter of epsilon.
        seed: Of the random start.

    Returns:
        `(B, 3, H, W)` in [0, 1], each in the ball around its image.

    Raises:
        ValueError: If a pixel lies outside [0, 1].
    """
    network, threat = _network(model), Threat(norm, epsilon)
    with computing():
        classify = ZeroShotClassifier(network, normalize(network.encode_texts(texts), dim=-1))
        streams = Streams.of(seed, "attack", samples=torch.arange(len(images), device=images.device))
        return pgd(
            lambda points: cross_entropy(classify(points), labels, reduction="none"),
            images,
            threat.draw(images, streams),
            threat,
            steps,
            epsilon / 4 if step_size is None else step_size,
        )


def evaluate(
    model: VisionLanguageModel | AdaptedModel,
    data: str = "fashion-mnist",
    protocol: Mapping[str, Any] | None = None,
    *,
    split: Literal["val", "test"] = "test",
) -> dict[str, float]:
    """Measures clean and robust accuracy, or recalls, under a protocol.

    Args:
        model: What is measured, on the CPU.
        data: An embedded data set, or a folder.
        protocol: What differs from the default protocol, nested as in a study: `{"epsilon": 4 / 255}`.
        split: Of the data set.

    Returns:
        Metric -> number in [0, 1], such as `test/robust_r1:8_255`.

    Raises:
        ConfigError: If a key is unknown, a value is not allowed, or the protocol does not fit the data set.
        DataError: If the data set is unknown or damaged.
    """
    config, evaluation = DataConfig(name=data), parse(EvaluationProtocol, protocol or {}, "protocol.")
    problems = check_data(config, (split,)) or check_evaluation(TrialConfig(data=config), evaluation)
    if needs_surrogate(evaluation):
        problems.append("protocol.attacks: an attack from the pretrained model needs its name; use 'advlora evaluate'")
    if problems:
        raise ConfigError(problems)
    frozen: Callable[[], AbstractContextManager[None]] = (
        model.frozen if isinstance(model, AdaptedModel) else nullcontext
    )
    evaluator = Evaluator(_network(model), config, evaluation, Workbench(), frozen=frozen)
    return evaluator.measure(split, curve=True).metrics


def _network(model: VisionLanguageModel | AdaptedModel) -> VisionLanguageModel:
    return model.model.eval() if isinstance(model, AdaptedModel) else model.eval()
