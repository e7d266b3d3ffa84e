"""``livemind.integrations`` in a checkout: the modules of ``orchestrator/integrations/``.

Installed, the build has put that folder here.
"""

from pathlib import Path

__path__ = [str(Path(__file__).parent / "orchestrator" / "integrations")]
