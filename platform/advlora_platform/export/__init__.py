"""What leaves a study: the best configuration with its provenance."""

from advlora_platform.export.best import BestFile, check_reproduction, read_best, write_best
from advlora_platform.export.provenance import provenance

__all__ = ["BestFile", "check_reproduction", "provenance", "read_best", "write_best"]
