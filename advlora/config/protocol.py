"""`EvaluationProtocol`: how every trial of a study is evaluated. Fixed per study, never searchable."""

from __future__ import annotations

from typing import Annotated, Self

from pydantic import Field, model_validator

from advlora.config.base import Amount, Count, Ratio, Section, Seed, Share
from advlora.config.evaluation_attacks import AnyEvaluationAttack, Pgd
from advlora.config.perturbation import check_epsilon


class SamplesConfig(Section):
    """How many samples of each split are evaluated (the first ones)."""

    val: Count = 500
    """Of `val`."""
    test: Count = 1000
    """Of `test`."""


class GuardConfig(Section):
    """Checks whether the numbers of a protocol can be trusted, on a few examples of a finished model."""

    enabled: bool = True
    """Whether final models are checked."""
    samples: Count = 100
    """Examples that the checks look at."""
    tolerance: Share = 0.05
    """Largest change of accuracy by which two attacks that should agree may differ; also the largest accuracy that may
    be left at the large epsilon, and the largest share of examples with vanishing gradients."""
    steps: Count = 20
    """At most as many steps are taken where the protocol's attacks are run again at other epsilons."""
    queries: Count = 200
    """Of the black-box attack on what withstands the protocol."""
    large_epsilon: Annotated[Ratio, Field(gt=0)] | None = None
    """Radius at which nothing can be robust; None means 0.5 in L-inf, and its counterpart in L2."""


class EvaluationProtocol(Section):
    """Attacks, epsilons and samples; robust accuracy counts an image only if it withstands every attack."""

    attacks: Annotated[tuple[AnyEvaluationAttack, ...], Field(min_length=1)] = (Pgd(),)
    """An image counts as robust only if it withstands all of them."""
    epsilon: Annotated[Ratio, Field(gt=0)] = 8 / 255
    """The main epsilon: trials are selected by it."""
    curve: tuple[Annotated[Ratio, Field(gt=0)], ...] = ()
    """Further epsilons, measured on the final model only."""
    samples: SamplesConfig = SamplesConfig()
    """How many samples of each split are evaluated."""
    interval: Amount = 1
    """Epochs between evaluations on `val` during training; 0 means at the end only."""
    batch_size: Count = 250
    """Images per batch of the evaluation; changes no number."""
    rerank: Amount = 0
    """Retrieval: candidates per query that a matching head reorders (BLIP: 128); 0 for none."""
    seed: Seed = 0
    """Seed of the attacks."""
    guards: GuardConfig = GuardConfig()
    """Checks whether the numbers can be trusted."""

    @model_validator(mode="after")
    def _epsilons_fit_norm(self) -> Self:
        for attack in self.attacks:
            for epsilon in (self.epsilon, *self.curve):
                check_epsilon(attack.norm, epsilon)
        return self

    def describe(self, classes: int = 0) -> str:
        """Says in one clause what a number under this protocol means, such as `PGD-10 (L-inf 8/255), 400 val images`.

        Args:
            classes: How many classes the data set has: attacks that need more are not run, and not named. 0 names all.
        """
        named = [words for attack in self.attacks if (words := attack.run_on(classes, self.epsilon))]
        attacks, worst = " and ".join(named), "worst case of " if len(named) > 1 else ""
        return f"{worst}{attacks}, {self.samples.val} val / {self.samples.test} test images"
