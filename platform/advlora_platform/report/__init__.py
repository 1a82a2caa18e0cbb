"""Tables, figures and pages of a study."""

from advlora_platform.report.terminal import terminal_report
from advlora_platform.report.write import write_report

__all__ = ["terminal_report", "write_report"]
