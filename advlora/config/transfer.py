"""`TransferConfig`: further data sets, to which a model is taken without being trained on them."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BeforeValidator, Field

from advlora.config.base import Section, Text
from advlora.config.trial import DataSetConfig


def _named(value: Any) -> Any:
    """Lets a set be its name alone."""
    return {"name": value} if isinstance(value, str) else value


class TransferSet(DataSetConfig):
    """A set of the transfer suite, or a suite that is known by name."""

    name: Text
    """`fare-13` or `tecoa-15`, an embedded data set, or a folder below `root` (or by its absolute path). The other keys
    hold for every set of a suite. `sets: [fare-13]` is short for `sets: [{name: fare-13}]`."""


class TransferConfig(Section):
    """Further data sets on which a model is measured, clean and attacked, with its own texts of their classes."""

    root: Text = "."
    """Folder in which the sets lie. `~` and environment variables count."""
    sets: Annotated[
        tuple[Annotated[TransferSet, BeforeValidator(_named, json_schema_input_type=TransferSet | str)], ...],
        Field(min_length=1),
    ]
    """The sets, and suites of sets."""
