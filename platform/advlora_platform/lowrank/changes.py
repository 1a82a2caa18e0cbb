"""What one full fine-tuning did to the weights: spectra by layer, and robust accuracy of the truncated change."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch

from advlora.config import EvaluationProtocol, TrialConfig
from advlora.evaluation.evaluator import Evaluator
from advlora.evaluation.lowrank import Spectrum, spectra, summary, truncated_model
from advlora.metrics import Metric
from advlora.models import VisionLanguageModel, tower_names
from advlora.training.workbench import Workbench
from advlora_platform.execution.states import rebuild
from advlora_platform.lowrank.trials import Trained


@dataclass(frozen=True)
class Layer:
    """The change of one weight.

    Attributes:
        rank_90: Fewest directions that hold 90 % of the energy.
        stable_rank: See `advlora.evaluation.lowrank.Spectrum`.
        entropy_rank: See `advlora.evaluation.lowrank.Spectrum`.
        norm: Relative to the weight before.
        energy: Share of the energy that the leading 1, 2, ... directions hold.
    """

    rank_90: int
    stable_rank: float
    entropy_rank: float
    norm: float
    energy: tuple[float, ...]

    @classmethod
    def of(cls, found: Spectrum) -> Layer:
        """Writes a spectrum as plain data."""
        energy = found.values.double().square()
        shares = energy.cumsum(0) / energy.sum().clamp_min(torch.finfo(energy.dtype).tiny)
        held = tuple(round(share, 6) for share in shares.tolist())
        return cls(found.rank_90, found.stable_rank, found.entropy_rank, found.norm, held)


@dataclass(frozen=True)
class Change:
    """The change of one full fine-tuning.

    Attributes:
        arm: Its arm in the study.
        seed: Seed of the training.
        adversarial: Whether it was trained against an attack.
        layers: Layer -> spectrum.
        means: Means over the layers.
        truncated: Rank -> robust accuracy on test with every change cut to this rank; rank 0 keeps what was trained
            outside these layers.
        whole: Robust accuracy on test of the model as it was trained.
    """

    arm: str
    seed: int
    adversarial: bool
    layers: dict[str, Layer]
    means: dict[str, float]
    truncated: dict[int, float]
    whole: float


def measure_change(trial: Trained, protocol: EvaluationProtocol, ranks: Sequence[int], bench: Workbench) -> Change:
    """Measures a finished full fine-tuning.

    Raises:
        UserError: If its trained weights were removed.
    """
    config = trial.config
    trained, _ = rebuild(config, trial.folder)
    before, after = bench.model(config.model), trained.model.requires_grad_(False)
    evaluator = Evaluator(
        model=after,
        data=config.data,
        protocol=protocol,
        source=bench,
        base=config.model,
        own_texts=trained.trains_text,
        device=torch.device("cuda" if torch.cuda.is_available() else "cpu"),
    )
    found: dict[str, Spectrum] = {}
    for tower in tower_names(config.adapter.tower):
        prefix = "text/" if tower == "text" else ""
        found |= {prefix + name: each for name, each in spectra(before, after, tower=tower).items()}
    return Change(
        arm=trial.arm,
        seed=config.seed,
        adversarial=trial.adversarial,
        layers={name: Layer.of(each) for name, each in found.items()},
        means=summary(found),
        truncated={rank: _robust(evaluator, _cut(before, after, rank, config)) for rank in ranks},
        whole=_robust(evaluator, after),
    )


def _cut(
    before: VisionLanguageModel, after: VisionLanguageModel, rank: int, config: TrialConfig
) -> VisionLanguageModel:
    for tower in tower_names(config.adapter.tower):
        after = truncated_model(before, after, rank, tower=tower)
    return after


def _robust(evaluator: Evaluator, model: VisionLanguageModel) -> float:
    """Measures a model in the place of the trained one."""
    measured = replace(evaluator, model=model.to(evaluator.device)).measure("test", curve=False)
    return measured.metrics[str(Metric.robust("test", evaluator.protocol.epsilon))]
