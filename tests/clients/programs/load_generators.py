"""What the programs of guidellm and aiperf share: prompts, and a report that is read."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from secrets import token_hex

REQUESTS, ANSWER_TOKENS = 8, 16
FILLER = "The harbour of Kestrel has three piers, a lighthouse and a crane from 1911. " * 6


def prompts(count: int = REQUESTS) -> list[str]:
    """Return texts of one length of which no two have a beginning in common."""
    return [f"({token_hex(8)}) {FILLER}\nHow many piers are there?" for _ in range(count)]


def written(file: Path, field: str, texts: list[str], **more: object) -> Path:
    """Write JSON lines with a prompt each; return the file."""
    file.write_text("".join(json.dumps({field: text, **more}) + "\n" for text in texts))
    return file


def ended_well(words: list[str], folder: Path) -> None:
    """Run a command; raises RuntimeError with the end of what it said.

    Told to be offline, aiperf takes a folder for the name of a repository.
    """
    online = {name: value for name, value in os.environ.items() if name != "HF_HUB_OFFLINE"}
    ended = subprocess.run(
        words, cwd=folder, capture_output=True, text=True, timeout=220, env=online
    )
    if ended.returncode:
        raise RuntimeError((ended.stdout + ended.stderr).strip()[-400:])
