"""How the tests check shapes and types in signatures: beartype, with an int accepted as a float, as PEP 484 says."""

from beartype import BeartypeConf, beartype

typechecker = beartype(conf=BeartypeConf(is_pep484_tower=True))
