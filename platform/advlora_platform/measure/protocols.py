"""From what a person calls a protocol to the protocol itself, and the hash that is its version."""

from __future__ import annotations

from pathlib import Path

from advlora.config import EvaluationProtocol, parse, read_yaml
from advlora.errors import ConfigError, did_you_mean
from advlora.identity import fingerprint
from advlora_platform.shelves import shipped, shipped_protocols
from advlora_platform.study.library import load_any


def read_protocol(reference: str) -> EvaluationProtocol:
    """Reads a shipped protocol, the protocol of a study, or a YAML file that holds a protocol.

    Raises:
        ConfigError: If there is neither.
    """
    studies = {**shipped("ablation"), **shipped("sweep")}
    if reference in shipped_protocols():
        return parse(EvaluationProtocol, read_yaml(shipped_protocols()[reference]))
    if reference in studies:
        return load_any(reference).protocol
    if not Path(reference).suffix and not Path(reference).exists():
        known = [*shipped_protocols(), *studies]
        raise ConfigError(
            f"no protocol or study is called '{reference}' (a file must end in .yaml)"
            f"{did_you_mean(reference, known) or '; known: ' + ', '.join(known)}"
        )
    content = read_yaml(Path(reference))
    if "kind" in content:
        return load_any(reference).protocol
    return parse(EvaluationProtocol, content)


def protocol_hash(protocol: EvaluationProtocol) -> str:
    """Hashes everything that a protocol says; two numbers may be compared only if they share it."""
    return fingerprint(protocol.model_dump(mode="json"))
