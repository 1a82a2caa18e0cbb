"""A study: its YAML, its arms and trials, its folder, and the ledger of what is done."""

from advlora_platform.study.folder import StudyFolder, read_json, remove_drafts
from advlora_platform.study.lease import Lease
from advlora_platform.study.ledger import Ledger, Record, reopened
from advlora_platform.study.observer import Expectant, Observer, Shielded
from advlora_platform.study.opening import home, open_folder, reopen, trials_of
from advlora_platform.study.spec import Study

__all__ = [
    "Expectant",
    "Lease",
    "Ledger",
    "Observer",
    "Record",
    "Shielded",
    "Study",
    "StudyFolder",
    "home",
    "open_folder",
    "read_json",
    "remove_drafts",
    "reopen",
    "reopened",
    "trials_of",
]
