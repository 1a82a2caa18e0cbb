"""Typed configuration of a trial and of the evaluation protocol."""

from advlora.config.adapters import AdapterConfig, AdaptiveConfig, AlignmentConfig, LoraAdapter, LowRankAdapter
from advlora.config.attack_base import EvaluationAttackConfig
from advlora.config.inits import InitConfig
from advlora.config.load import parse
from advlora.config.losses import BaseLossConfig, LossConfig
from advlora.config.paths import expanded
from advlora.config.poison import BackdoorConfig, PoisonConfig
from advlora.config.protocol import EvaluationProtocol, GuardConfig, SamplesConfig
from advlora.config.renamed import renamed_key
from advlora.config.schema import (
    all_keys,
    applicable,
    in_effect,
    kind_path,
    leaves,
    spelled,
    takes,
    vary,
    with_values,
)
from advlora.config.training_attacks import OverfittingConfig, TrainingAttackConfig
from advlora.config.transfer import TransferConfig, TransferSet
from advlora.config.trial import (
    HUB,
    LOCAL,
    DataConfig,
    ModelConfig,
    OptimiserConfig,
    ResourcesConfig,
    TrialConfig,
)
from advlora.reading import dump_yaml, parse_override, parse_yaml, read_yaml

__all__ = [
    "HUB",
    "LOCAL",
    "AdapterConfig",
    "AdaptiveConfig",
    "AlignmentConfig",
    "BackdoorConfig",
    "BaseLossConfig",
    "DataConfig",
    "EvaluationAttackConfig",
    "EvaluationProtocol",
    "GuardConfig",
    "InitConfig",
    "LoraAdapter",
    "LossConfig",
    "LowRankAdapter",
    "ModelConfig",
    "OptimiserConfig",
    "OverfittingConfig",
    "PoisonConfig",
    "ResourcesConfig",
    "SamplesConfig",
    "TrainingAttackConfig",
    "TransferConfig",
    "TransferSet",
    "TrialConfig",
    "all_keys",
    "applicable",
    "dump_yaml",
    "expanded",
    "in_effect",
    "kind_path",
    "leaves",
    "parse",
    "parse_override",
    "parse_yaml",
    "read_yaml",
    "renamed_key",
    "spelled",
    "takes",
    "vary",
    "with_values",
]
