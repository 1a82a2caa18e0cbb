"""Class names and templates by name, as open_clip ships them, in place of a data set's own."""

from __future__ import annotations

from typing import Any

from advlora.config import DataConfig
from advlora.data.manifest import Manifest
from advlora.errors import DataError

CLASSES = {"openai-imagenet": "IMAGENET_CLASSNAMES"}
TEMPLATES = {"openai": "OPENAI_IMAGENET_TEMPLATES", "simple": "SIMPLE_IMAGENET_TEMPLATES"}
"""Name in a configuration -> name in open_clip."""


def named(manifest: Manifest, config: DataConfig) -> Manifest:
    """Returns a manifest with the class names and templates that the configuration asks for.

    Raises:
        DataError: If the data set has no classes, or not as many, or neither it nor the configuration has templates.
    """
    asked = {key: getattr(config, key) for key in ("classes", "templates") if getattr(config, key) is not None}
    if manifest.task == "retrieval":
        if asked:
            raise DataError(f"data.{min(asked)}: data set '{manifest.name}' has captions instead; leave it out")
        return manifest
    names = class_names(config.classes) if config.classes else manifest.classes
    if len(names) != len(manifest.classes):
        raise DataError(
            f"data.classes: '{config.classes}' names {len(names)} classes, but data set '{manifest.name}' has "
            f"{len(manifest.classes)}"
        )
    templates = class_templates(config.templates) if config.templates else manifest.templates
    if not templates:
        raise DataError(
            f"data set '{manifest.name}' holds no prompts.txt; write one prompt per line, such as 'a photo of a {{}}', "
            f"or name templates of open_clip (data.templates: {' or '.join(TEMPLATES)})"
        )
    return manifest.model_copy(update={"classes": names, "templates": templates}) if asked else manifest


def class_names(name: str) -> tuple[str, ...]:
    """Returns class names of open_clip in the order of their labels."""
    return tuple(_open_clip(CLASSES[name]))


def class_templates(name: str) -> tuple[str, ...]:
    """Returns templates of open_clip, with `{}` for the name of the class."""
    return tuple(template("{}") for template in _open_clip(TEMPLATES[name]))


def _open_clip(name: str) -> Any:
    from open_clip import zero_shot_metadata

    return getattr(zero_shot_metadata, name)
