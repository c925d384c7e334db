"""`dpl compare`: runs of methods x shots x seeds, each in its own folder, and tables of all results after every run."""

from dpl.experiments.compare.plan import Column, Plan, PlannedRun, make_plan
from dpl.experiments.compare.run import RunTime, compare, time_left

__all__ = ["Column", "Plan", "PlannedRun", "RunTime", "compare", "make_plan", "time_left"]
