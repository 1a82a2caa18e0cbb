"""All checks of a finished model under a protocol.

After the checklist of Carlini et al. (2019, section 5), Athalye et al. (2018, section 3.1) and the flags of AutoAttack.
A protocol is trusted by what its own attacks do: a check runs them again at another epsilon, or lets an attack of
another family try what they left standing.
"""

from __future__ import annotations

from itertools import pairwise
from math import sqrt

import torch
from torch import Tensor

from advlora.attacks import Classifier, Threat, expanded, finite, runnable
from advlora.config import EvaluationAttackConfig, EvaluationProtocol, GuardConfig
from advlora.config.attack_base import GradientAttack
from advlora.config.evaluation_attacks import Di, Noise, Pgd, Square
from advlora.data import ImageTextSet
from advlora.evaluation.guards.finding import GuardFinding
from advlora.evaluation.guards.gradients import vanishing_share
from advlora.evaluation.guards.recall import RetrievalSubject
from advlora.evaluation.guards.subject import ClassifierSubject, Subject
from advlora.evaluation.outcomes import Outcomes
from advlora.evaluation.zero_shot import ZeroShotClassifier
from advlora.models import VisionLanguageModel
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
    clean = known.clean[:count].to(device)
    subject = ClassifierSubject(
        classify=classifier,
        surrogate=surrogate,
        images=data.images[:count].to(device).float() / 255,
        labels=data.labels[:count].to(device),
        sound=clean,
        clean=clean,
        standing=known.robust[protocol.epsilon][:count].to(device),
        attacks=runnable(protocol.attacks, len(classifier.class_features)),
        protocol=protocol,
    )
    return _findings(subject) + ([transfer(subject)] if surrogate is not None else [])


def run_retrieval_guards(
    model: VisionLanguageModel, data: ImageTextSet, protocol: EvaluationProtocol
) -> list[GuardFinding]:
    """Checks a model and its protocol on the first examples of a set for retrieval, ranked among themselves.

    Args:
        model: The model.
        data: The examples; the first `protocol.guards.samples` of them are used.
        protocol: The evaluation whose numbers are judged.

    Returns:
        One finding per check.
    """
    few = data.first(protocol.guards.samples)
    return _findings(RetrievalSubject.of(model, few, protocol))


def _findings(subject: Subject) -> list[GuardFinding]:
    """Returns what is checked whatever the task."""
    return [
        deterministic_forward(subject),
        varied_answers(subject),
        clean_above_constant(subject),
        clean_at_least_robust(subject),
        gradients(subject),
        noise_harmless(subject),
        monotone(subject),
        large_epsilon(subject),
        more_effort(subject),
        black_box(subject),
    ]


def guard_forwards(protocol: EvaluationProtocol, classes: int | None = 10) -> float:
    """Returns at most what the checks cost, in F, without the evaluation that they judge.

    Args:
        protocol: The evaluation.
        classes: Number of classes; None for retrieval, of which the few examples are measured again.
    """
    guards = protocol.guards
    if not guards.enabled:
        return 0.0
    attacks = expanded(protocol.attacks) if classes is None else runnable(protocol.attacks, classes)
    others = [Square(steps=guards.queries), Di(), Noise(restarts=1)]
    again = [*4 * _probes(attacks, guards), *_stronger(attacks), *others, *(attacks if classes is None else ())]
    return float(guards.samples * (9 + sum(attack.forwards(classes or 1) for attack in again)))


def _guided(attacks: tuple[EvaluationAttackConfig, ...]) -> list[GradientAttack]:
    return [attack for attack in attacks if isinstance(attack, GradientAttack)]


def _probes(attacks: tuple[EvaluationAttackConfig, ...], guards: GuardConfig) -> list[EvaluationAttackConfig]:
    """Returns the protocol's gradient attacks, shortened; PGD on the margin if it has none."""
    shortened = [attack.weakened(guards.steps) for attack in _guided(attacks)]
    return [*shortened] or [Pgd(loss="margin", norm=attacks[0].norm, steps=guards.steps)]


def _stronger(attacks: tuple[EvaluationAttackConfig, ...]) -> list[EvaluationAttackConfig]:
    """Returns the gradient attacks with twice the steps, one more start, and iterated where they were not."""
    return [attack.strengthened() for attack in _guided(attacks)]


def deterministic_forward(subject: Subject) -> GuardFinding:
    """Equal images must give equal logits: a randomised model shows every attacker another face."""
    with torch.no_grad():
        first, second = (finite(subject.classify(subject.images), "logits") for _ in range(2))
    value = ((first - second).abs().max() / first.std().clamp_min(1e-12)).item()
    return GuardFinding(
        "deterministic_forward",
        value <= SAME_LOGITS,
        value,
        f"two passes over the same images differ by {value:.2g} of the logits' spread",
    )


def varied_answers(subject: Subject) -> GuardFinding:
    """A model must not answer all queries alike: no attack can change such an answer."""
    least = max(subject.answers(), key=lambda each: each.most)
    ok = all(each.varied(subject.guards.tolerance) for each in subject.answers())
    reason = f"the most frequent {least.noun} is the answer to {least.most:.1%} of the queries, "
    return GuardFinding("varied_answers", ok, least.most, f"{reason}and right for at most {least.constant:.1%}")


def clean_above_constant(subject: Subject) -> GuardFinding:
    """A model must answer better than one that always says the largest class, or the same caption."""
    leads = {subject.share(each.right) - each.constant: each for each in subject.answers()}
    value, least = min(leads.items(), key=lambda item: item[0])
    ok = all(each.above_constant() for each in subject.answers())
    right, constant = subject.share(least.right), least.constant
    reason = f"{right:.1%} are right, and {constant:.1%} would be if the {least.noun} were always the same"
    return GuardFinding("clean_above_constant", ok, value, reason)


def clean_at_least_robust(subject: Subject) -> GuardFinding:
    """No query may count as robust that is not even answered correctly."""
    clean, robust = subject.share(subject.clean), subject.share(subject.standing)
    reason = f"clean {subject.MEASURED} {clean:.1%}, robust {robust:.1%}"
    return GuardFinding("clean_at_least_robust", subject.impossible() == 0, clean - robust, reason)


def gradients(subject: Subject) -> GuardFinding:
    """The attacker's gradients must not vanish, as cross-entropy's do under a large logit scale."""
    losses = {attack.objective for attack in _guided(subject.attacks)} or {"margin"}
    images, labels = subject.images[subject.sound], subject.labels[subject.sound]
    shares = {loss: vanishing_share(subject.classify, images, labels, loss) for loss in sorted(losses)}
    loss, value = min(shares.items(), key=lambda item: item[1])
    reason = f"the gradient of {loss.replace('_', '-')} vanishes for {value:.1%} of the images"
    return GuardFinding("gradients", value <= subject.guards.tolerance, value, reason)


def noise_harmless(subject: Subject) -> GuardFinding:
    """Random noise must do little, or much less than the attack."""
    noise = Noise(norm=subject.norm, restarts=1)
    kept = subject.left(subject.clean, [noise], subject.protocol.epsilon, "noise")
    value, attacked = subject.share(subject.clean & ~kept), subject.share(subject.clean & ~subject.standing)
    ok = value <= max(subject.guards.tolerance, attacked / 2)
    reason = f"one draw of noise breaks {value:.1%} of the {subject.COUNTED}, the protocol's attacks {attacked:.1%}"
    return GuardFinding("noise_harmless", ok, value, reason)


def monotone(subject: Subject) -> GuardFinding:
    """A larger ball must not be safer; every epsilon is attacked from scratch."""
    probes, epsilon = _probes(subject.attacks, subject.guards), subject.protocol.epsilon
    radii = (epsilon / 2, epsilon, 2 * epsilon)
    rows = [subject.share(subject.left(subject.clean, probes, radius, "monotone")) for radius in radii]
    value = max(later - earlier for earlier, later in pairwise(rows))
    reason = f"{subject.MEASURED} at half, once and twice the radius is " + ", ".join(f"{row:.1%}" for row in rows)
    return GuardFinding("monotone", value <= subject.guards.tolerance, value, reason)


def large_epsilon(subject: Subject) -> GuardFinding:
    """Nothing can be robust where every image can become any other."""
    pixels = subject.images[0].numel()
    radius = subject.guards.large_epsilon or (LARGE if subject.norm == "linf" else LARGE * sqrt(pixels))
    kept = subject.left(subject.clean, _probes(subject.attacks, subject.guards), radius, "large")
    value = subject.share(kept)
    reason = f"{subject.MEASURED} at radius {radius:.3g} is {value:.1%}, where nothing can be robust"
    return GuardFinding("large_epsilon", value <= subject.guards.tolerance, value, reason)


def more_effort(subject: Subject) -> GuardFinding:
    """Twice the steps and another start must not change the number."""
    value = subject.broken(_stronger(subject.attacks), "effort")
    reason = f"twice the steps and another start break another {value:.1%} of the {subject.COUNTED}"
    return GuardFinding("more_effort", value <= subject.guards.tolerance, value, reason)


def black_box(subject: Subject) -> GuardFinding:
    """An attack that sees logits only must not beat one that sees gradients."""
    square = Square(norm=subject.norm, steps=subject.guards.queries)
    value = subject.broken(subject.ways(square), "black box")
    reason = f"Square with {subject.guards.queries} queries breaks {value:.1%} that the protocol's attacks do not"
    return GuardFinding("black_box", value <= subject.guards.tolerance, value, reason)


def transfer(subject: Subject) -> GuardFinding:
    """An attack on the pretrained model must not beat one on the evaluated model."""
    value = subject.broken([Di(norm=subject.norm)], "transfer")
    reason = f"a transfer attack from the pretrained model breaks {value:.1%} that the protocol's attacks do not"
    return GuardFinding("transfer", value <= subject.guards.tolerance, value, reason)


def same_as_merged(trained: Classifier, merged: Classifier, images: Tensor) -> GuardFinding:
    """The merged weights that are measured and shipped must be the function that was trained, also next to the images.

    Args:
        trained: The model with its adapter beside the weights.
        merged: The model with its adapter merged into the weights.
        images: `(B, 3, H, W)` in [0, 1], or videos.
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
