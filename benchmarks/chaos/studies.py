"""The studies that are disturbed: small ones of every kind whose trials do not depend on each other's order."""

from __future__ import annotations

from typing import Any

BASE: dict[str, Any] = {
    "data": {"train_samples": 192},
    "attack": {"steps": 2},
    "optimiser": {"batch_size": 32, "epochs": 4},
}
PROTOCOL: dict[str, Any] = {
    "attacks": [{"steps": 3}],
    "samples": {"val": 64, "test": 64},
    "interval": 1,
    "guards": {"samples": 32, "queries": 10, "tolerance": 0.2},
}
STUDIES: dict[str, dict[str, Any]] = {
    "ablation": {
        "kind": "ablation",
        "seeds": [0, 1, 2],
        "base": BASE,
        "protocol": PROTOCOL,
        "arms": {"AdvLoRA": {}, "LoRA": {"adapter.init": "gaussian"}, "full": {"adapter.kind": "full"}},
        "tuning": {
            "parameters": {"optimiser.learning_rate": {"type": "categorical", "choices": [1e-3, 4e-3]}},
            "trials": 2,
            "sampler": "grid",
        },
    },
    # One trial at a time: then the sampler knows the same results before every suggestion, disturbed or not.
    "sweep": {
        "kind": "sweep",
        "base": BASE,
        "protocol": PROTOCOL,
        "parameters": {
            "adapter.rank": {"type": "int", "low": 2, "high": 16, "log": True},
            "optimiser.learning_rate": {"type": "float", "low": 1e-4, "high": 1e-2, "log": True},
        },
        "search": {"trials": 8, "scheduler": {"kind": "none"}},
        "confirm": {"protocol": {**PROTOCOL, "attacks": [{"steps": 5}]}, "top": 2, "seeds": [7]},
        "max_concurrent": 1,
    },
    "group": {
        "kind": "ablation",
        "seeds": [0, 1],
        "base": {**BASE, "resources": {"workers": 2}},
        "protocol": PROTOCOL,
        "arms": {"AdvLoRA": {}, "full": {"adapter.kind": "full"}},
    },
}
