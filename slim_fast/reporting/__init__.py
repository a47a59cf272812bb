"""A run's report: one page with curves, accuracies, and moving skeletons of single clips."""

from slim_fast.reporting.compose import write_report
from slim_fast.reporting.subject import ReportSettings

__all__ = ["ReportSettings", "write_report"]
