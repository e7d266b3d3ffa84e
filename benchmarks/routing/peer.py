"""The same prompts through aurelio's semantic-router: same vectors, same examples, whole texts.

It lives in an environment of its own, ``var/peers/semantic-router`` (``python -m venv`` there, then
``pip install semantic-router``). Its encoder is a look-up of the vectors that LiveMind's encoder
made, so that only the routing differs. This file is run twice: imported here, and as a script by
that environment's Python, where nothing of LiveMind is importable.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

PEER = Path("var/peers/semantic-router")
LIMIT_S = 150


def predict(
    examples: Sequence[tuple[str, str]],
    asked: Sequence[str],
    vectors: dict[str, npt.NDArray[np.float32]],
) -> dict[str, Any] | None:
    """Return {"version", "domains": one per text, None = no route}; None when not installed.

    Args:
        examples: (text, domain).
        asked: texts to route.
        vectors: of all texts.
    """
    python = PEER / "bin" / "python"
    if not python.exists():
        return None
    with tempfile.TemporaryDirectory(prefix="livemind-peer-") as folder:
        texts = list(vectors)
        np.savez(Path(folder) / "vectors.npz", vectors=np.stack([vectors[text] for text in texts]))
        job = {"texts": texts, "examples": list(examples), "asked": list(asked)}
        (Path(folder) / "job.json").write_text(json.dumps(job), encoding="utf-8")
        command = [str(python), __file__, folder]
        done = subprocess.run(command, capture_output=True, text=True, timeout=LIMIT_S, check=False)
        if done.returncode:
            raise RuntimeError(f"semantic-router: {done.stderr.strip().splitlines()[-1:]}")
        found: dict[str, Any] = json.loads((Path(folder) / "answer.json").read_text("utf-8"))
        return found


def _answer(folder: Path) -> None:
    """Run in the peer's environment."""
    from importlib.metadata import version

    from semantic_router import IndexedRouter, Route
    from semantic_router.encoders import DenseEncoder

    job = json.loads((folder / "job.json").read_text("utf-8"))
    rows = np.load(folder / "vectors.npz")["vectors"]
    known = dict(zip(job["texts"], rows.tolist(), strict=True))

    class LookUp(DenseEncoder):  # type: ignore[misc]
        name: str = "all-MiniLM-L6-v2"

        def __call__(self, docs: list[Any]) -> list[list[float]]:
            return [known[doc] for doc in docs]

        async def acall(self, docs: list[Any]) -> list[list[float]]:
            return self(docs)

    by_domain: dict[str, list[str]] = {}
    for text, domain in job["examples"]:
        by_domain.setdefault(domain, []).append(text)
    routes = [Route(name=name, utterances=texts) for name, texts in by_domain.items()]
    router = IndexedRouter(encoder=LookUp(), routes=routes)  # as it comes, without a threshold
    domains = [router(text).name for text in job["asked"]]
    answer = {"version": version("semantic-router"), "domains": domains}
    (folder / "answer.json").write_text(json.dumps(answer), encoding="utf-8")


if __name__ == "__main__":
    _answer(Path(sys.argv[1]))
