"""All checks of a finished model under a protocol.

After the checklist of Carlini et al. (2019, section 5), Athalye et al. (2018, section 3.1) and the flags of AutoAttack.
A protocol is trusted by what its own attacks do: a check runs them again at another epsilon, or lets an attack of
another family try what they left standing.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from math import sqrt

import torch
from torch import Tensor

from advlora.attacks import Classifier, Threat, runnable, withstands
from advlora.config import EvaluationAttackConfig, EvaluationProtocol, GuardConfig
from advlora.config.attack_base import GradientAttack
from advlora.config.evaluation_attacks import Di, Noise, Pgd, Square
from advlora.config.perturbation import Norm
from advlora.data import ImageTextSet
from advlora.evaluation.guards.finding import GuardFinding
from advlora.evaluation.guards.gradients import vanishing_share
from advlora.evaluation.outcomes import Outcomes
from advlora.evaluation.zero_shot import ZeroShotClassifier
from advlora.randomness import Streams

SAME_LOGITS = 1e-4
"""Largest difference between equal logits, relative to their spread: rounding, not chance."""
LARGE = 0.5
"""Radius at which every image can be made grey."""


def run_guards(
    classifier: ZeroShotClassifier,
    data: ImageTextSet,
    protocol: EvaluationProtocol,
    known: Outcomes,
    *,
    surrogate: ZeroShotClassifier | None = None,
) -> list[GuardFinding]:
    """Checks a model and its protocol on the first examples of a data set.

    Args:
        classifier: The model.
        data: The examples; the first `protocol.guards.samples` of them are used.
        protocol: The evaluation whose numbers are judged.
        known: What the evaluation found on these examples at its main epsilon; it may hold more examples.
        surrogate: The pretrained model, for a transfer attack; without it this check is left out.

    Returns:
        One finding per check.
    """
    count, device = min(protocol.guards.samples, len(data)), classifier.device
    subject = _Subject(
        classify=classifier,
        surrogate=surrogate,
        images=data.images[:count].to(device).float() / 255,
        labels=data.labels[:count].to(device),
        clean=known.clean[:count].to(device),
        standing=known.robust[protocol.epsilon][:count].to(device),
        attacks=runnable(protocol.attacks, len(classifier.class_features)),
        protocol=protocol,
    )
    findings = [
        deterministic_forward(subject),
        clean_at_least_robust(subject),
        gradients(subject),
        noise_harmless(subject),
        monotone(subject),
        large_epsilon(subject),
        more_effort(subject),
        black_box(subject),
    ]
    return findings + ([transfer(subject)] if subject.surrogate is not None else [])


def guard_forwards(protocol: EvaluationProtocol, classes: int = 10) -> float:
    """Returns at most what the checks cost, in F, without the evaluation that they judge."""
    guards = protocol.guards
    if not guards.enabled:
        return 0.0
    attacks = runnable(protocol.attacks, classes)
    others = [Square(steps=guards.queries), Di(), Noise(restarts=1)]
    again = [*4 * _probes(attacks, guards), *_stronger(attacks), *others]
    return float(guards.samples * (8 + sum(attack.forwards(classes) for attack in again)))


@dataclass(frozen=True)
class _Subject:
    """What is checked.

    Attributes:
        clean: `(N,)`, classified correctly.
        standing: `(N,)`, withstands the protocol at its main epsilon.
        attacks: The protocol's, without ensembles.
    """

    classify: Classifier
    surrogate: Classifier | None
    images: Tensor
    labels: Tensor
    clean: Tensor
    standing: Tensor
    attacks: tuple[EvaluationAttackConfig, ...]
    protocol: EvaluationProtocol

    @property
    def guards(self) -> GuardConfig:
        return self.protocol.guards

    @property
    def norm(self) -> Norm:
        return self.attacks[0].norm

    def share(self, rows: Tensor) -> float:
        return rows.double().mean().item()

    def left(self, facing: Tensor, attacks: list[EvaluationAttackConfig], epsilon: float, purpose: str) -> Tensor:
        """Returns which of the images `facing`, `(N,)`, withstand all attacks, `(N,)`."""
        facing = facing.clone()
        for number, attack in enumerate(attacks):
            for places in torch.split(facing.nonzero()[:, 0], self.protocol.batch_size):
                streams = Streams.of(self.protocol.seed, "guard", purpose, number, samples=places)
                images, labels = self.images[places], self.labels[places]
                facing[places] = withstands(self.classify, images, labels, attack, epsilon, streams, self.surrogate)
        return facing

    def broken(self, attacks: list[EvaluationAttackConfig], purpose: str) -> float:
        """Returns the share of all images that the protocol left standing and these attacks break."""
        kept = self.left(self.standing, attacks, self.protocol.epsilon, purpose)
        return self.share(self.standing & ~kept)


def _guided(attacks: tuple[EvaluationAttackConfig, ...]) -> list[GradientAttack]:
    return [attack for attack in attacks if isinstance(attack, GradientAttack)]


def _probes(attacks: tuple[EvaluationAttackConfig, ...], guards: GuardConfig) -> list[EvaluationAttackConfig]:
    """Returns the protocol's gradient attacks, shortened; PGD on the margin if it has none."""
    shortened = [attack.weakened(guards.steps) for attack in _guided(attacks)]
    return [*shortened] or [Pgd(loss="margin", norm=attacks[0].norm, steps=guards.steps)]


def _stronger(attacks: tuple[EvaluationAttackConfig, ...]) -> list[EvaluationAttackConfig]:
    """Returns the gradient attacks with twice the steps, one more start, and iterated where they were not."""
    return [attack.strengthened() for attack in _guided(attacks)]


def deterministic_forward(subject: _Subject) -> GuardFinding:
    """Equal images must give equal logits: a randomised model shows every attacker another face."""
    with torch.no_grad():
        first, second = subject.classify(subject.images), subject.classify(subject.images)
    value = ((first - second).abs().max() / first.std().clamp_min(1e-12)).item()
    return GuardFinding(
        "deterministic_forward",
        value <= SAME_LOGITS,
        value,
        f"two passes over the same images differ by {value:.2g} of the logits' spread",
    )


def clean_at_least_robust(subject: _Subject) -> GuardFinding:
    """No image may count as robust that is not even classified correctly."""
    clean, robust = subject.share(subject.clean), subject.share(subject.standing)
    impossible = subject.share(subject.standing & ~subject.clean)
    reason = f"clean accuracy {clean:.1%}, robust {robust:.1%}"
    return GuardFinding("clean_at_least_robust", impossible == 0, clean - robust, reason)


def gradients(subject: _Subject) -> GuardFinding:
    """The attacker's gradients must not vanish, as cross-entropy's do under a large logit scale."""
    losses = {attack.objective for attack in _guided(subject.attacks)} or {"margin"}
    images, labels = subject.images[subject.clean], subject.labels[subject.clean]
    shares = {loss: vanishing_share(subject.classify, images, labels, loss) for loss in sorted(losses)}
    loss, value = min(shares.items(), key=lambda item: item[1])
    reason = f"the gradient of {loss.replace('_', '-')} vanishes for {value:.1%} of the images"
    return GuardFinding("gradients", value <= subject.guards.tolerance, value, reason)


def noise_harmless(subject: _Subject) -> GuardFinding:
    """Random noise must do little, or much less than the attack."""
    noise = Noise(norm=subject.norm, restarts=1)
    kept = subject.left(subject.clean, [noise], subject.protocol.epsilon, "noise")
    value, attacked = subject.share(subject.clean & ~kept), subject.share(subject.clean & ~subject.standing)
    ok = value <= max(subject.guards.tolerance, attacked / 2)
    reason = f"one draw of noise breaks {value:.1%} of the images, the protocol's attacks {attacked:.1%}"
    return GuardFinding("noise_harmless", ok, value, reason)


def monotone(subject: _Subject) -> GuardFinding:
    """A larger ball must not be safer; every epsilon is attacked from scratch."""
    probes, epsilon = _probes(subject.attacks, subject.guards), subject.protocol.epsilon
    radii = (epsilon / 2, epsilon, 2 * epsilon)
    rows = [subject.share(subject.left(subject.clean, probes, radius, "monotone")) for radius in radii]
    value = max(later - earlier for earlier, later in pairwise(rows))
    reason = "accuracy at half, once and twice the radius is " + ", ".join(f"{row:.1%}" for row in rows)
    return GuardFinding("monotone", value <= subject.guards.tolerance, value, reason)


def large_epsilon(subject: _Subject) -> GuardFinding:
    """Nothing can be robust where every image can become any other."""
    pixels = subject.images[0].numel()
    radius = subject.guards.large_epsilon or (LARGE if subject.norm == "linf" else LARGE * sqrt(pixels))
    kept = subject.left(subject.clean, _probes(subject.attacks, subject.guards), radius, "large")
    value = subject.share(kept)
    reason = f"accuracy at radius {radius:.3g} is {value:.1%}, where nothing can be robust"
    return GuardFinding("large_epsilon", value <= subject.guards.tolerance, value, reason)


def more_effort(subject: _Subject) -> GuardFinding:
    """Twice the steps and another start must not change the number."""
    value = subject.broken(_stronger(subject.attacks), "effort")
    reason = f"twice the steps and another start break another {value:.1%} of the images"
    return GuardFinding("more_effort", value <= subject.guards.tolerance, value, reason)


def black_box(subject: _Subject) -> GuardFinding:
    """An attack that sees logits only must not beat one that sees gradients."""
    value = subject.broken([Square(norm=subject.norm, steps=subject.guards.queries)], "black box")
    reason = f"Square with {subject.guards.queries} queries breaks {value:.1%} that the protocol's attacks do not"
    return GuardFinding("black_box", value <= subject.guards.tolerance, value, reason)


def transfer(subject: _Subject) -> GuardFinding:
    """An attack on the pretrained model must not beat one on the evaluated model."""
    value = subject.broken([Di(norm=subject.norm)], "transfer")
    reason = f"a transfer attack from the pretrained model breaks {value:.1%} that the protocol's attacks do not"
    return GuardFinding("transfer", value <= subject.guards.tolerance, value, reason)


def same_as_merged(trained: Classifier, merged: Classifier, images: Tensor) -> GuardFinding:
    """The merged weights that are measured and shipped must be the function that was trained, also next to the images.

    Args:
        trained: The model with its adapter beside the weights.
        merged: The model with its adapter merged into the weights.
        images: `(B, 3, H, W)` in [0, 1].
    """
    threat, places = Threat("linf", 4 / 255), torch.arange(len(images), device=images.device)
    noise = threat.draw(images, Streams.of(0, "merged", samples=places))
    value = 0.0
    for points in (images, threat.project(images + noise, images)):
        with torch.no_grad():
            ours, theirs = trained(points), merged(points)
        value = max(value, ((ours - theirs).abs().max() / ours.std().clamp_min(1e-12)).item())
    ok = value <= 10 * SAME_LOGITS
    return GuardFinding("merged", ok, value, f"merged weights change the logits by {value:.2g} of their spread")
