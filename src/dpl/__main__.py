"""`python -m dpl` is the command `dpl`."""

import sys

from dpl.cli import main

sys.exit(main())
