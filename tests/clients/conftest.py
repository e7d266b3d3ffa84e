"""``livemind serve`` with two of the tiny experts, for the programs that run in ``make test``."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from . import run

EXPERTS = [
    {
        "expert_id": name,
        "model_path": f"zoo:{name}",
        "domain": name,
        "dtype": "float32",
        "max_model_len": 4096,
        "kv_cache_gib": 0.25,
        "tool_strict_level": "parameter",  # so small a model obeys grammars alone
        "json_whitespace": 1,
    }
    for name in ("general", "multilingual")  # which makes a router, and is not loaded
]


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Yield the server's URL with ``/v1``."""
    folder = tmp_path_factory.mktemp("clients")
    config = folder / "config.json"
    config.write_text(json.dumps({"experts": EXPERTS, "rag": {"enabled": False}}))
    with run.served(config, folder / "server.log") as served:
        yield served
