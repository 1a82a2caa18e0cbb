"""Is adversarial adaptation low-rank? Spectra and truncation of full fine-tunings, against trained adapters."""

from advlora_platform.lowrank.evidence import Evidence, gather
from advlora_platform.lowrank.study import two_arms
from advlora_platform.lowrank.write import findings, log_evidence, write_evidence

__all__ = ["Evidence", "findings", "gather", "log_evidence", "two_arms", "write_evidence"]
