"""Typed configuration of a trial and of the evaluation protocol."""

from advlora.config.load import all_keys, leaves, merged, parse, parse_override, parse_yaml, read_yaml, with_values
from advlora.config.protocol import (
    EvaluationAttackConfig,
    EvaluationProtocol,
    GuardConfig,
    SamplesConfig,
    clean_metric,
    robust_metric,
    strength,
)
from advlora.config.trial import (
    AdapterConfig,
    AdaptiveConfig,
    AlignmentConfig,
    ClusteringConfig,
    DataConfig,
    LossConfig,
    ModelConfig,
    OptimiserConfig,
    ResourcesConfig,
    TrainingAttackConfig,
    TrialConfig,
)

__all__ = [
    "AdapterConfig",
    "AdaptiveConfig",
    "AlignmentConfig",
    "ClusteringConfig",
    "DataConfig",
    "EvaluationAttackConfig",
    "EvaluationProtocol",
    "GuardConfig",
    "LossConfig",
    "ModelConfig",
    "OptimiserConfig",
    "ResourcesConfig",
    "SamplesConfig",
    "TrainingAttackConfig",
    "TrialConfig",
    "all_keys",
    "clean_metric",
    "leaves",
    "merged",
    "parse",
    "parse_override",
    "parse_yaml",
    "read_yaml",
    "robust_metric",
    "strength",
    "with_values",
]
