"""`python -m textdiff` is `textdiff`."""

import sys

from textdiff.cli import main

sys.exit(main())
