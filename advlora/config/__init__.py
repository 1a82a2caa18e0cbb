"""Typed configuration of a trial and of the evaluation protocol."""

from advlora.config.adapters import (
    AdapterConfig,
    AdaptiveConfig,
    AlignmentConfig,
    LoraAdapter,
    LowRankAdapter,
)
from advlora.config.inits import (
    InitConfig,
)
from advlora.config.load import parse, parse_override, parse_yaml, read_yaml
from advlora.config.protocol import (
    CAPTION_KINDS,
    JOINT_KINDS,
    EvaluationAttackConfig,
    EvaluationProtocol,
    GuardConfig,
    SamplesConfig,
)
from advlora.config.renamed import renamed_key
from advlora.config.schema import (
    all_keys,
    applicable,
    in_effect,
    kind_path,
    leaves,
    merged,
    spelled,
    takes,
    vary,
    with_values,
)
from advlora.config.trial import (
    LOCAL,
    DataConfig,
    LossConfig,
    ModelConfig,
    OptimiserConfig,
    OverfittingConfig,
    PoisonConfig,
    ResourcesConfig,
    TrainingAttackConfig,
    TrialConfig,
)

__all__ = [
    "CAPTION_KINDS",
    "JOINT_KINDS",
    "LOCAL",
    "AdapterConfig",
    "AdaptiveConfig",
    "AlignmentConfig",
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
    "TrialConfig",
    "all_keys",
    "applicable",
    "in_effect",
    "kind_path",
    "leaves",
    "merged",
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
