"""Where the relative paths of a configuration begin: at the driver, whichever process on whichever node reads them."""

from __future__ import annotations

import os
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from advlora.config import LOCAL, DataConfig, EvaluationProtocol, ModelConfig, TrialConfig
from advlora.data import embedded_data


@dataclass(frozen=True)
class Roots:
    """The folders that paths of data sets and models are relative to.

    Attributes:
        folder: The working folder of the driver.
        home: What `~` stands for there.
    """

    folder: str
    home: str

    @classmethod
    def here(cls) -> Roots:
        """Returns those of this process."""
        return cls(os.getcwd(), os.path.expanduser("~"))

    def path(self, name: str) -> str:
        """Returns an absolute path."""
        if name == "~" or name.startswith("~/"):
            name = self.home + name[1:]
        return os.path.join(self.folder, name)

    def trial(self, config: TrialConfig) -> TrialConfig:
        """Returns a configuration that every process reads alike: with absolute paths of data and models."""
        return config.model_copy(update={"data": self._data(config.data), "model": self.model(config.model)})

    def protocol(self, protocol: EvaluationProtocol) -> EvaluationProtocol:
        """Returns a protocol that every process reads alike: with absolute paths of language models."""
        return protocol.model_copy(update={"attacks": tuple(self._words(each) for each in protocol.attacks)})

    def model(self, model: ModelConfig) -> ModelConfig:
        """Returns a model with an absolute folder or checkpoint file; a name stays one."""
        changes = {"name": self._local(model.name)} if _in_folder(model) else {}
        if model.pretrained and Path(self.path(model.pretrained)).is_file():
            changes["pretrained"] = self.path(model.pretrained)
        return model.model_copy(update=changes)

    def _data(self, data: DataConfig) -> DataConfig:
        return data.model_copy(update={"name": self.path(data.name)}) if names_a_folder(data) else data

    def _words(self, attack: Any) -> Any:
        words = getattr(attack, "words", "")
        return attack.model_copy(update={"words": self._local(words)}) if words.startswith(LOCAL) else attack

    def _local(self, name: str) -> str:
        return LOCAL + self.path(name.removeprefix(LOCAL))


def names_a_folder(data: DataConfig) -> bool:
    """Whether a data set is given by its path, not by the name of an embedded one."""
    return data.layout not in {"auto", "shards"} or data.name not in _embedded()


@cache
def _embedded() -> frozenset[str]:
    return frozenset(embedded_data())


def relative_paths(config: TrialConfig) -> dict[str, str]:
    """Returns key -> path of all that is looked for below the working folder, or the home, of the driver."""
    data, model = config.data, config.model
    found = {"data.name": data.name} if names_a_folder(data) else {}
    if _in_folder(model):
        found["model.name"] = model.name.removeprefix(LOCAL)
    if model.pretrained and Path(model.pretrained).is_file():
        found["model.pretrained"] = model.pretrained
    return {key: path for key, path in found.items() if not os.path.isabs(path)}


def _in_folder(model: ModelConfig) -> bool:
    return model.source != "embedded" and model.name.startswith(LOCAL)


def identity(written: TrialConfig, found: TrialConfig) -> dict[str, Any]:
    """Returns what the numbers of a trial depend on, without the places where data and models lie.

    What lies there is hashed by its content, so that a study whose data move keeps its trials.

    Args:
        written: The configuration.
        found: The same with absolute paths.
    """
    content = written.identity()
    if names_a_folder(written.data):
        content["data"]["name"] = ""
    if _in_folder(written.model):
        content["model"]["name"] = LOCAL
    if found.model.pretrained and Path(found.model.pretrained).is_file():
        content["model"]["pretrained"] = ""
    return content
