"""``python -m accel.cli``: the ``accel`` command from a bare checkout."""

import sys

from accel.cli import main

sys.exit(main())
