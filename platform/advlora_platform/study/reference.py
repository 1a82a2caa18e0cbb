"""Every key that can be written, in the order of a reference: what `advlora keys` and `docs/reference.md` list."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from advlora.config import EvaluationProtocol, TrialConfig
from advlora_platform.study.ablation import AblationStudy
from advlora_platform.study.keys import Key, described
from advlora_platform.study.library import BASE
from advlora_platform.study.spec import Study
from advlora_platform.study.sweep import SweepStudy

PROTOCOL = "protocol."
HEADINGS = {
    "Every study": "At the top of a study's file.",
    "Trials": (
        "In a study's file below `base`; with `--set`, and in factors, arms and parameters, as they stand here. The "
        "name of a section is short for its kind: `attack: none` is `attack: {kind: none}`."
    ),
    "Evaluation": "The protocol of a study, the `confirm.protocol` of a sweep, and the files in `protocols/`.",
    "Ablations": "At the top of a study's file with `kind: ablation`.",
    "Sweeps": "At the top of a study's file with `kind: sweep`.",
}
PREFACE = (
    "# Reference: every key\n\nWritten by `advlora keys --markdown`; `advlora keys PREFIX` shows a part of it in the "
    "terminal. A key without a default is required.\n"
)


def reference() -> dict[str, list[Key]]:
    """Returns heading -> keys."""
    return {
        "Every study": [*(key for key in described(Study) if not key.path.startswith(PROTOCOL))],
        "Trials": [*described(TrialConfig)],
        "Evaluation": [*described(EvaluationProtocol, PROTOCOL)],
        "Ablations": [*_own(AblationStudy)],
        "Sweeps": [key for key in _own(SweepStudy) if not key.path.startswith(f"confirm.{PROTOCOL}")],
    }


def _own(kind: type[Study]) -> Iterator[Key]:
    shared = set(Study.model_fields)
    return (key for key in described(kind) if key.path.split(".")[0].removesuffix("[]") not in shared)


def matching(keys: Mapping[str, list[Key]], prefix: str) -> list[Key]:
    """Returns the keys at and below a path; also those whose last part only begins so."""
    wanted = prefix.removeprefix(BASE)
    return [key for group in keys.values() for key in group if key.path.startswith(wanted)]


def facts(key: Key) -> str:
    """Says what a key may be, what it is where it is left out, and who takes it."""
    default = f"; default {key.default}" if key.default else ""
    return f"{key.values}{default}" + (f"; with {key.needs}" if key.needs else "")


def to_markdown(keys: Mapping[str, list[Key]]) -> str:
    """Writes the whole reference."""
    parts = [PREFACE]
    for heading, group in keys.items():
        rows = [f"| `{key.path}` | {_cell(facts(key))} | {_cell(key.sentence)} |" for key in group]
        head = [f"## {heading}\n", f"{HEADINGS[heading]}\n", "| key | values | what it is |", "|---|---|---|"]
        parts.append("\n".join([*head, *rows, ""]))
    return "\n".join(parts)


def _cell(text: str) -> str:
    return text.replace("|", "\\|")
