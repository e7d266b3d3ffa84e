"""``python -m livemind.orchestrator.cli``."""

import sys

from .entry import main

sys.exit(main())
