"""What leaves a study: the best configuration with its provenance, and packs that another person can verify."""

from advlora_platform.export.best import BestFile, best_text, check_reproduction, read_best, write_best
from advlora_platform.export.pack import Pack, open_pack, seal
from advlora_platform.export.provenance import installed, provenance, uncommitted
from advlora_platform.export.reproduction import Circumstances, Reproduction, contradictions, reproduction

__all__ = [
    "BestFile",
    "Circumstances",
    "Pack",
    "Reproduction",
    "best_text",
    "check_reproduction",
    "contradictions",
    "installed",
    "open_pack",
    "provenance",
    "read_best",
    "reproduction",
    "seal",
    "uncommitted",
    "write_best",
]
