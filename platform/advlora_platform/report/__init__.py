"""Tables, figures and pages of a study."""

from advlora_platform.report.frames import frames
from advlora_platform.report.reports import Report, ablation_report, sweep_report
from advlora_platform.report.terminal import to_terminal
from advlora_platform.report.write import write_report

__all__ = ["Report", "ablation_report", "frames", "sweep_report", "to_terminal", "write_report"]
