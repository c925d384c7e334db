"""`dpl compare`: methods x shots x seeds, a run folder for each, and what they say together after every run."""

from dpl.compare.plan import Column, Plan, PlannedRun, make_plan
from dpl.compare.work import Taken, compare, time_left

__all__ = ["Column", "Plan", "PlannedRun", "Taken", "compare", "make_plan", "time_left"]
