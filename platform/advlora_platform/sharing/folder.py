"""The folder of a trained model: verified exports, what was trained, and the model card."""

from __future__ import annotations

from pathlib import Path

from advlora.adapters import save_trained
from advlora.config import TrialConfig, parse
from advlora.errors import UserError
from advlora_platform.choosing import Choice
from advlora_platform.execution.states import rebuild
from advlora_platform.sharing.card import model_card
from advlora_platform.study import StudyFolder
from advlora_platform.study.folder import write_text
from advlora_platform.study.outcomes import Shelf

RECIPE, CARD = "train.yaml", "README.md"


def write_model(choice: Choice, folder: StudyFolder, target: Path) -> dict[str, Path]:
    """Writes the model of one finished trial.

    Args:
        choice: The configuration, and its trial.
        folder: Where the study has run.
        target: A folder that does not exist yet, or is empty.

    Returns:
        What was written, by name, as `save_trained` does.

    Raises:
        UserError: If the target is not empty, or the trial's weights are not there any more.
        ExportError: If an export is not the function that was trained.
    """
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise UserError(f"'{target}' exists already; a model needs a new or empty folder")
    config = parse(TrialConfig, choice.best.config)
    trained, images = rebuild(config, folder.trial(choice.best.trial_id))
    paths = save_trained(trained, config.model, config.adapter, target, images)
    write_text(target / RECIPE, choice.text(RECIPE))
    write_text(target / CARD, str(model_card(choice, Shelf(folder), tuple(paths))))
    return paths
