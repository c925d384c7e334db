"""`python -m dpl` is the command `dpl`."""

import sys

from dpl.cli.main import main

sys.exit(main())
