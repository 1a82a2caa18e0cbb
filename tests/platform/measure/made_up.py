"""Records with made-up outcomes, which a test can count by hand."""

from __future__ import annotations

from typing import Any

from advlora_platform.measure import EvaluationRecord

CLEAN = "11110"


def record(**changes: Any) -> EvaluationRecord:
    """Four of five right on clean images; one falls to `pgd`, another one to `square`, which spares what is broken."""
    content: dict[str, Any] = {
        "model": {"name": "best/model", "kind": "trained", "weights": "aa"},
        "data": {"name": "set", "hash": "d1", "split": "test", "samples": 5, "examples": "e1"},
        "protocol_name": "strong",
        "protocol": {"epsilon": 8 / 255},
        "protocol_hash": "p1",
        "protocol_text": "PGD and Square",
        "metrics": {"test/clean_r1": 0.8, "test/robust_r1:8_255": 0.4},
        "accuracies": {"8_255": {"pgd": 0.6, "square": 0.4, "worst case": 0.4}},
        "curve": [[0, 0.8], [8 / 255, 0.4]],
        "examples": {
            "clean": CLEAN,
            "robust": {"8_255": "11000"},
            "attacks": {"8_255": {"pgd": "1110-", "square": "110--"}},
        },
        "seconds": 1.5,
        "provenance": {"code_version": "c1"},
    }
    return EvaluationRecord.model_validate({**content, **changes})


def changed(part: str, **values: Any) -> EvaluationRecord:
    """A record in one part of which something is different."""
    known = record()
    return known.model_copy(update={part: getattr(known, part).model_copy(update=values)})
