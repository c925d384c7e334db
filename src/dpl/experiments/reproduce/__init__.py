"""`dpl reproduce`: a protocol of the field on the available data sets, with published figures beside the measured ones."""

from dpl.experiments.reproduce.grid import PROTOCOLS, Grid, Protocol, choose_data
from dpl.experiments.reproduce.run import reproduce

__all__ = ["PROTOCOLS", "Grid", "Protocol", "choose_data", "reproduce"]
