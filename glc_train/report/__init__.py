"""Results of evaluations, and the pictures beside them, as one page of HTML that needs nothing else."""

from glc_train.report.page import write_page
from glc_train.report.runs import ReportError, Run, load_run

__all__ = ["ReportError", "Run", "load_run", "write_page"]
