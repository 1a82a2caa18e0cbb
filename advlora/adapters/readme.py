"""README.md of an exported adapter: the lines that load it, and what is unusual about it."""

from __future__ import annotations

import json
from pathlib import Path

from advlora.config import HUB, LOCAL, ModelConfig
from advlora.models.base import TowerName
from advlora.models.twin import hub_twin

README = "README.md"
_LOAD = """from advlora.config import ModelConfig
from advlora.models import {imported}
from peft import PeftModel

model = load_for_adapter({base})
PeftModel.from_pretrained({module}, ".")
# model.encode_images(images): images (B, 3, H, W) in [0, 1]
"""
_LOAD_TRANSFORMERS = """from peft import PeftModel
from transformers import {kind}

model = PeftModel.from_pretrained({kind}.from_pretrained({name}{revision}), ".")
"""
_LOAD_CONVERTED = """from advlora.config import ModelConfig
from advlora.models import as_transformers, load_model
from peft import PeftModel

base = as_transformers(load_model({base}))  # base.save_pretrained(...) keeps it for those without this package
model = PeftModel.from_pretrained(base, ".")
"""
_SPLIT = """
This adapter has its own update for query, key and value. open_clip keeps the three in one matrix, for which PEFT has no
exact counterpart, so they are split on loading. On an open_clip model as it is, PEFT refuses to load this adapter: its
layers lie below the name `split_attention`, which only `SplitTower` gives.
"""
_TWIN = """
It is for transformers' `CLIPModel` with the weights of the open_clip model, and computes the same function there as
`adapter/` does on that one.
"""
_RANK = """
## Rank {exported} where {trained} was trained
Training may start from low-rank factors B0 A0 that are taken out of the pretrained weight: W0 - s0 B0 A0 + s B A. What
is added to W0 itself is then s B A - s0 B0 A0, a difference of two products, whose rank is twice as high. Where the
model has one layer for query, key and value, their three updates are the blocks of one, and their ranks add up.
"""
_TEXT = """# LoRA adapter of {what}

In this folder:

```python
{load}```
{notes}
## Licence
An adapter is of no use without the weights that it was trained from; their licence holds for it too.
"""


def write_readme(
    folder: Path, tower: TowerName, base: ModelConfig | None, trained: int, *, kind: str, split: bool
) -> None:
    """Writes how the adapter in a folder is loaded on the model of its own library.

    Args:
        folder: Holds the adapter.
        tower: The tower it belongs to.
        base: The pretrained model.
        trained: Rank of the training.
        kind: Class of the module that it attaches to.
        split: Whether its layers lie inside a `SplitTower`.
    """
    config = base or ModelConfig()
    load = _on_transformers(config, kind) if config.source == "transformers" else _on_open_clip(config, tower, split)
    _write(folder, f"the {tower} tower of `{name_of_base(config)}`", load, _SPLIT if split else "", trained)


def write_twin_readme(folder: Path, base: ModelConfig, trained: int) -> None:
    """Writes how the adapter in a folder is loaded on transformers' model of the same function as the base."""
    known = hub_twin(base)
    load = (
        _LOAD_CONVERTED.format(base=_shown(base))
        if known is None
        else _LOAD_TRANSFORMERS.format(kind="CLIPModel", name=f'"{known}"', revision="")
    )
    _write(folder, f"`{known or name_of_base(base)}` in transformers", load, _TWIN, trained)


def name_of_base(base: ModelConfig) -> str:
    """Names a pretrained model as its library or the hub does; a folder by its path."""
    name = base.name.removeprefix(LOCAL).removeprefix(HUB)
    return name if base.pretrained is None or base.source == "transformers" else f"{name}:{base.pretrained}"


def _on_open_clip(base: ModelConfig, tower: TowerName, split: bool) -> str:
    module = f'model.tower("{tower}").module'
    if split:
        return _LOAD.format(base=_shown(base), imported="SplitTower, load_for_adapter", module=f"SplitTower({module})")
    return _LOAD.format(base=_shown(base), imported="load_for_adapter", module=module)


def _on_transformers(base: ModelConfig, kind: str) -> str:
    revision = "" if base.pretrained is None else f', revision="{base.pretrained}"'
    return _LOAD_TRANSFORMERS.format(kind=kind, name=f'"{name_of_base(base)}"', revision=revision)


def _shown(base: ModelConfig) -> str:
    keys = {"source": base.source, "name": base.name, "pretrained": base.pretrained}
    return f"ModelConfig({', '.join(f'{key}={json.dumps(value)}' for key, value in keys.items() if value is not None)})"


def _write(folder: Path, what: str, load: str, note: str, trained: int) -> None:
    exported = json.loads((folder / "adapter_config.json").read_text())["r"]
    rank = _RANK.format(exported=exported, trained=trained) if exported != trained else ""
    (folder / README).write_text(_TEXT.format(what=what, load=load, notes=note + rank))
