"""Tables, figures and pages of a study."""

from advlora_platform.report.content import build_document
from advlora_platform.report.terminal import to_terminal
from advlora_platform.report.write import write_report

__all__ = ["build_document", "to_terminal", "write_report"]
