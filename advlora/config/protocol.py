"""`EvaluationProtocol`: how every trial of a study is evaluated. Fixed per study, never searchable."""

from __future__ import annotations

from pathlib import PurePath
from typing import Annotated, Any, Literal, Self, get_args

from pydantic import Field, model_validator

from advlora.config.base import Count, Ratio, Section, Share
from advlora.metrics import readable_epsilon

AttackKind = Literal[
    "fgsm",
    "pgd",
    "apgd",
    "apgd-ce",
    "apgd-dlr",
    "apgd-t",
    "fab",
    "fab-t",
    "square",
    "mi",
    "di",
    "noise",
    "autoattack",
    "autoattack-plus",
    "set-level",
    "co-attack",
    "sga",
]

_GUIDED: dict[str, Any] = {"steps": 10, "step_size": None}
_SCALES = (0.5, 0.75, 1.25, 1.5)
"""Sizes, beside 1, at which an image must miss its captions (Lu et al. 2023, section 4.2)."""

_TAKES: dict[str, dict[str, Any]] = {
    "fgsm": {"loss": "cross_entropy"},
    "pgd": {"loss": "cross_entropy", "steps": 10, "step_size": None, "restarts": 1},
    "apgd": {"loss": "cross_entropy", "steps": 100, "restarts": 1, "targets": 0},
    "apgd-ce": {"steps": 100, "restarts": 1},
    "apgd-dlr": {"steps": 100, "restarts": 1},
    "apgd-t": {"steps": 100, "restarts": 1, "targets": 9},
    "fab": {"steps": 100, "restarts": 1},
    "fab-t": {"steps": 100, "restarts": 1, "targets": 9},
    "square": {"steps": 5000, "restarts": 1},
    "mi": {"loss": "cross_entropy", "steps": 10, "step_size": None, "source": "pretrained"},
    "di": {"loss": "cross_entropy", "steps": 10, "step_size": None, "source": "pretrained"},
    "noise": {"restarts": 10},
    "autoattack": {},
    "autoattack-plus": {},
    "set-level": {**_GUIDED, "restarts": 1, "scales": _SCALES},
    "co-attack": {**_GUIDED, "words": None},
    "sga": {**_GUIDED, "scales": _SCALES, "words": None},
}
"""Kind -> the keys that it takes beside `kind` and `norm`, with the values they have unless given."""

ATTACK_KINDS: tuple[AttackKind, ...] = get_args(AttackKind)
JOINT_KINDS = ("co-attack", "sga")
"""They change a word of every caption too."""
CAPTION_KINDS = ("set-level", *JOINT_KINDS)
"""They aim at captions, so only retrieval knows them."""

_FIXED: dict[str, dict[str, Any]] = {
    "fgsm": {"steps": 1},
    "apgd-dlr": {"loss": "dlr"},
    "apgd-t": {"loss": "dlr_targeted"},
    "fab": {"loss": "margin"},
    "fab-t": {"loss": "margin"},
    "square": {"loss": "margin"},
}
"""Kind -> what its name settles; as with every key that a kind does not take, no other value is allowed."""


_NAMES = {
    "autoattack": "AutoAttack",
    "autoattack-plus": "AutoAttack+",
    "square": "Square",
    "noise": "noise",
    "set-level": "set-level PGD",
    "co-attack": "Co-Attack",
}
"""Kinds that are not written in capitals."""


class EvaluationAttackConfig(Section):
    """One attack of the protocol, in pixel space [0, 1]. What it does not say is the standard of its kind.

    White-box: `fgsm` (Goodfellow et al. 2015), `pgd` (Madry et al. 2018), `apgd` (Croce & Hein 2020, algorithm 1), by
    its usual names `apgd-ce`, `apgd-dlr`, `apgd-t`; `fab`, `fab-t` (Croce & Hein 2020, minimally distorted).
    Black-box: `square` (Andriushchenko et al. 2020). Transfer: `mi` (momentum, Dong et al. 2018), `di` (momentum and
    input diversity, Xie et al. 2019). Control: `noise`. Ensembles: `autoattack` is apgd-ce, apgd-t, fab-t, square;
    `autoattack-plus` is apgd-ce x5, apgd-dlr x5, fab x5, square, apgd-t, fab-t. Retrieval only: `set-level` (images
    against all of their captions, at several scales) and, with a word of every caption, `sga` (Lu et al. 2023); against
    one caption at one scale, `co-attack` (Zhang et al. 2022).
    """

    kind: AttackKind = "pgd"
    loss: Literal["cross_entropy", "margin", "dlr", "dlr_targeted"] = "cross_entropy"
    """What the attacker maximises. `margin`: the difference of logits of Carlini & Wagner (2017), blind to saturated
    cross-entropy. `dlr`, `dlr_targeted`: the same relative to the spread of the logits (Croce & Hein 2020, equations 6
    and 7); they need three classes, and an attack that uses them is left out where there are fewer."""
    norm: Literal["linf", "l2"] = "linf"
    steps: Count = 10
    """Gradient steps; of `square`, queries."""
    step_size: Annotated[Ratio, Field(gt=0)] | None = None
    """None means 2.5 epsilon / steps, at most epsilon (`mi`, `di`: epsilon / steps)."""
    restarts: Count = 1
    """Runs from different random numbers; of `noise`, draws."""
    targets: Annotated[int, Field(ge=0)] = 0
    """How many of the most likely wrong classes are aimed at, one run each; at most all of them."""
    source: Literal["model", "pretrained"] = "model"
    """Whose gradients are followed: the evaluated model's, or those of the pretrained one, as a transfer attack."""
    scales: tuple[Annotated[float, Field(gt=0, le=4)], ...] | None = None
    """Sizes, beside 1, at which an image must miss its captions; an empty list for size 1 alone."""
    words: Annotated[str, Field(min_length=1)] | None = None
    """Who proposes other words: a masked language model of transformers, by name or as `local-dir:PATH`."""

    @model_validator(mode="before")
    @classmethod
    def _standards_of_kind(cls, values: Any) -> Any:
        """Fills in the standards of the kind and refuses keys that would have no effect."""
        kind = values.get("kind", "pgd") if isinstance(values, dict) else None
        if kind not in _TAKES:
            return values
        common = {name: field.default for name, field in cls.model_fields.items()}
        standard = common | _FIXED.get(kind, {}) | _TAKES[kind]
        if standard["loss"] == "cross_entropy" and values.get("loss") == "dlr_targeted":
            standard["targets"] = 9
        idle = [
            key
            for key in common
            if key in values and key not in {"kind", "norm", *_TAKES[kind]} and values[key] != standard[key]
        ]
        if idle:
            raise ValueError(
                f"kind '{kind}' does not take {', '.join(idle)}; it takes {', '.join(('norm', *_TAKES[kind]))}"
            )
        return standard | values

    @model_validator(mode="after")
    def _targets_fit_loss(self) -> Self:
        if self.kind == "apgd" and (self.loss == "dlr_targeted") != (self.targets > 0):
            raise ValueError("targets belong to loss 'dlr_targeted', which needs at least one, and to no other loss")
        if self.kind in {"pgd", "fgsm", "mi", "di"} and self.loss == "dlr_targeted":
            raise ValueError(f"kind '{self.kind}' is not targeted; use kind 'apgd-t', or loss 'dlr' or 'margin'")
        if self.kind in {"apgd-t", "fab-t"} and not self.targets:
            raise ValueError(f"targets must be at least 1 for kind '{self.kind}'")
        return self

    @model_validator(mode="after")
    def _words_have_a_source(self) -> Self:
        if self.kind in JOINT_KINDS and self.words is None:
            raise ValueError(
                f"kind '{self.kind}' changes a word of every caption and needs words, a masked language model by name "
                f"or as 'local-dir:PATH'; kind 'set-level' attacks images alone"
            )
        return self

    @property
    def label(self) -> str:
        """A short name such as `pgd-20 margin x3`."""
        words = [self.kind if "steps" not in _TAKES[self.kind] else f"{self.kind}-{self.steps}"]
        words += [self.loss] if "loss" in _TAKES[self.kind] and self.loss != "cross_entropy" else []
        words += ["l2"] if self.norm == "l2" else []
        words += [f"x{self.restarts}"] if self.restarts > 1 else []
        return " ".join(words)

    def describe(self, epsilon: float) -> str:
        """Names the attack for a reader, such as `PGD-10 (cross-entropy, L-inf 8/255)`."""
        takes = _TAKES[self.kind]
        transferred = "transferred " if self.source == "pretrained" else ""
        count = f"-{self.steps}" if "steps" in takes else ""
        repeated = f" with {self.restarts} restarts" if self.restarts > 1 else ""
        details = [self.loss.replace("_", "-")] if "loss" in takes else []
        details.append(f"{'L-inf' if self.norm == 'linf' else 'L2'} {readable_epsilon(epsilon)}")
        details += [] if self.step_size is None else [f"step {readable_epsilon(self.step_size)}"]
        details += (
            [] if self.words is None else [f"words of {PurePath(self.words.partition(':')[2] or self.words).name}"]
        )
        name = _NAMES.get(self.kind, self.kind.upper())
        return f"{transferred}{name}{count}{repeated} ({', '.join(details)})"


class SamplesConfig(Section):
    """How many samples of each split are evaluated (the first ones)."""

    val: Count = 500
    test: Count = 1000


class GuardConfig(Section):
    """Checks whether the numbers of a protocol can be trusted, on a few examples of a finished model."""

    enabled: bool = True
    samples: Count = 100
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

    attacks: Annotated[tuple[EvaluationAttackConfig, ...], Field(min_length=1)] = (EvaluationAttackConfig(),)
    epsilon: Annotated[Ratio, Field(gt=0)] = 8 / 255
    """The main epsilon: trials are selected by it."""
    curve: tuple[Annotated[Ratio, Field(gt=0)], ...] = ()
    """Further epsilons, measured on the final model only."""
    samples: SamplesConfig = SamplesConfig()
    interval: Annotated[int, Field(ge=0)] = 1
    """Epochs between evaluations on `val` during training; 0 means at the end only."""
    batch_size: Count = 250
    rerank: Annotated[int, Field(ge=0)] = 0
    """Retrieval: candidates per query that a matching head orders anew (BLIP: 128); 0 for none."""
    seed: Annotated[int, Field(ge=0)] = 0
    guards: GuardConfig = GuardConfig()

    @model_validator(mode="after")
    def _epsilons_fit_norm(self) -> Self:
        linf = any(attack.norm == "linf" for attack in self.attacks)
        for epsilon in (self.epsilon, *self.curve):
            if linf and epsilon > 1:
                raise ValueError(
                    f"epsilon {epsilon:g} is larger than the whole pixel range [0, 1]; write it as a fraction, "
                    f"such as '{epsilon:g}/255'"
                )
        return self

    def describe(self) -> str:
        """Says in one clause what a number under this protocol means.

        Such as `PGD-10 (cross-entropy, L-inf 8/255), 400 val / 1000 test images`.
        """
        attacks = " and ".join(attack.describe(self.epsilon) for attack in self.attacks)
        worst = "worst case of " if len(self.attacks) > 1 else ""
        return f"{worst}{attacks}, {self.samples.val} val / {self.samples.test} test images"
