"""LiveMind behind an ASGI server: ``uvicorn --factory livemind.asgi:create``."""

from .orchestrator.cli.asgi import create
from .orchestrator.server.asgi.application import AsgiApplication

__all__ = ["AsgiApplication", "create"]
