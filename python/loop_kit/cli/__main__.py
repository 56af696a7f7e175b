"""`python -m loop_kit.cli` is `loop`."""

import sys

from loop_kit.cli import main

sys.exit(main())
