"""``python -m internal_kd.command_line``: the command line without its script."""

import sys

from internal_kd.command_line import main

sys.exit(main())
