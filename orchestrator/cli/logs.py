"""Where a server's log goes and how it looks: stderr or a file, as text or one JSON object a line.

What is logged is decided elsewhere; prompts, keys and answers never are.
"""

from __future__ import annotations

import json
import logging
from datetime import UTC, datetime
from logging.handlers import WatchedFileHandler
from pathlib import Path
from typing import Literal

LOG_FORMATS = ("text", "json")
LogFormat = Literal["text", "json"]


class JsonFormatter(logging.Formatter):
    """One line a record: ``time`` (UTC), ``level``, ``logger``, ``message``, ``exception``."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the record as JSON without line breaks."""
        entry = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        if record.exc_info:
            entry["exception"] = self.formatException(record.exc_info)
        return json.dumps(entry, ensure_ascii=False)


def configure_logs(level: str, log_format: LogFormat, file: Path | None = None) -> None:
    """Send everything from ``level`` on to stderr, or to the end of a file, in this format.

    A file that is moved away is begun anew, as log rotation expects.

    Raises:
        OSError: the file cannot be written.
    """
    handler = (
        logging.StreamHandler() if file is None else WatchedFileHandler(file, encoding="utf-8")
    )
    text = logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s")
    handler.setFormatter(JsonFormatter() if log_format == "json" else text)
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
    vllm = logging.getLogger("vllm")  # its half in this process belongs into an engine's log
    vllm.propagate = False
    vllm.setLevel(logging.INFO)
