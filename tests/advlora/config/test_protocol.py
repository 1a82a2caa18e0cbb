from __future__ import annotations

import pytest

from advlora.config import EvaluationProtocol, clean_metric, parse, robust_metric, strength
from advlora.errors import ConfigError

pytestmark = pytest.mark.unit


@pytest.mark.parametrize(
    ("epsilon", "name"),
    [(8 / 255, "8_255"), (0.5 / 255, "0.5_255"), (64 / 255, "64_255"), (0.03, "0.03"), (0.5, "0.5")],
)
def test_a_strength_has_one_spelling(epsilon, name):
    assert strength(epsilon) == name


def test_metric_names_pass_the_tracking_rules():
    from mlflow.utils.validation import _validate_metric_name

    for name in (clean_metric("val"), robust_metric("test", 8 / 255), robust_metric("val", 0.5)):
        _validate_metric_name(name)
    assert robust_metric("val", 8 / 255) == "val/robust_r1:8_255"


def test_strengths_are_checked_against_the_norm():
    with pytest.raises(ConfigError, match="epsilon 8 is larger"):
        parse(EvaluationProtocol, {"epsilon": 8})
    with pytest.raises(ConfigError, match="epsilon 16 is larger"):
        parse(EvaluationProtocol, {"curve": [16]})
    assert parse(EvaluationProtocol, {"epsilon": 2.0, "attacks": [{"norm": "l2"}]}).epsilon == 2.0


def test_a_protocol_needs_an_attack():
    with pytest.raises(ConfigError, match="attacks"):
        parse(EvaluationProtocol, {"attacks": []})


def test_a_protocol_says_what_its_numbers_mean():
    plain = parse(EvaluationProtocol, {"samples": {"val": 400, "test": 1000}})
    assert plain.describe() == "PGD-10 (cross-entropy, L-inf 8/255), 400 val / 1000 test images"
    several = parse(
        EvaluationProtocol,
        {
            "epsilon": 0.5,
            "attacks": [{"norm": "l2", "steps": 20, "restarts": 3}, {"loss": "margin", "step_size": "2/255"}],
        },
    )
    assert several.describe() == (
        "worst case of PGD-20 with 3 restarts (cross-entropy, L2 0.5) and PGD-10 (margin, L-inf 0.5, step 2/255), "
        "500 val / 1000 test images"
    )
