"""The kinds of study, each as one class: what is wrong with a study, what it runs, what it reports."""

from typing import Any

from advlora_platform.kinds.ablation import Ablation
from advlora_platform.kinds.kind import StudyKind
from advlora_platform.kinds.sweep import Sweep
from advlora_platform.kinds.workload import PlannedArm
from advlora_platform.study.ablation import AblationStudy
from advlora_platform.study.spec import Study
from advlora_platform.study.sweep import SweepStudy

KINDS: dict[type[Study], type[StudyKind[Any, Any]]] = {AblationStudy: Ablation, SweepStudy: Sweep}


def kind_of(study: Study) -> StudyKind[Any, Any]:
    """Returns a study as its kind."""
    return KINDS[type(study)](study)


__all__ = ["KINDS", "Ablation", "PlannedArm", "StudyKind", "Sweep", "kind_of"]
