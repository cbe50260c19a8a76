"""``python -m fastagent`` is the ``fastagent`` command."""

import sys

from fastagent.cli import main

sys.exit(main())
