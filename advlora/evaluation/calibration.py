"""`Calibration`: what the embedded model did under a protocol where it was made, to be met again on another machine."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from importlib import resources
from pathlib import Path
from typing import Any

from torch import Tensor

FILE = "embedded/calibration.json"
WIDTH = 0.01
"""An example whose fate changes at an epsilon smaller or larger by this part stands so near that rounding decides."""


@dataclass(frozen=True)
class Calibration:
    """Outcomes of single examples, `1` right and `0` wrong.

    Attributes:
        model: Embedded model.
        data: Embedded data set.
        split: `val` or `test`; its first examples are used.
        protocol_name: A shipped protocol.
        protocol: What it said.
        clean: Outcomes on clean images.
        robust: Outcomes under every attack of the protocol.
        near: `1` where rounding may decide about `robust`, see `WIDTH`.
        library: What attacked the same images with the same attacks, and its version.
        library_robust: Robust accuracy by the library.
        made: Versions and kind of machine where all this was measured.
    """

    model: str
    data: str
    split: str
    protocol_name: str
    protocol: dict[str, Any]
    clean: str
    robust: str
    near: str
    library: str
    library_robust: float
    made: dict[str, str]

    @property
    def samples(self) -> int:
        """Number of examples."""
        return len(self.clean)

    @property
    def robust_accuracy(self) -> float:
        """Share of examples that withstand."""
        return self.robust.count("1") / self.samples

    def write(self, file: Path) -> None:
        """Writes it as JSON."""
        file.write_text(json.dumps(asdict(self), indent=1) + "\n")


def shipped() -> Calibration:
    """Returns the calibration that ships with the package."""
    return Calibration(**json.loads(calibration_file().read_text()))


def calibration_file() -> Path:
    """Returns where it lies. It is no part of the method's code version, for no number depends on it."""
    return Path(str(resources.files("advlora"))) / FILE


def flags(outcomes: Tensor) -> str:
    """Writes outcomes `(N,)` as one character each."""
    return "".join("1" if right else "0" for right in outcomes.tolist())


def differing(shipped: str, measured: str) -> list[int]:
    """Returns the positions of examples with another outcome."""
    return [place for place, (one, other) in enumerate(zip(shipped, measured, strict=True)) if one != other]
