"""`dpl reproduce`: a protocol of the field on the data sets that are there, and the published figures beside what is measured."""

from dpl.reproduce.grid import PROTOCOLS, Grid, make_grid
from dpl.reproduce.work import reproduce

__all__ = ["PROTOCOLS", "Grid", "make_grid", "reproduce"]
