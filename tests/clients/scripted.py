"""A server of this process in front of a scripted expert that obeys tools and schemas.

``python tests/clients/scripted.py`` serves until it is stopped and prints the URL: for
``run.py --url URL --model-name "scripted expert"``, where no engine is to be started.
"""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

from livemind.backends.base import Message, template_options
from livemind.backends.fake import FakeExpert
from livemind.orchestrator.config.settings import Settings
from livemind.orchestrator.live_mind import LiveMind
from livemind.orchestrator.server.app import create_app, run_server
from livemind.rag.encoder.fake import FakeEmbedder


def obedient(messages: Sequence[Message]) -> str:
    """Call the first tool that was not called yet, answer JSON where that is asked for."""
    told = template_options(messages).get("tools") or ()
    said = [message for message in messages if message.role != "template"]
    made = {call.name for message in said for call in message.details.tool_calls}
    for tool in told:
        function = tool["function"]
        if function["name"] not in made:
            call = {"name": function["name"], "arguments": example(function["parameters"] or {})}
            return f"<tool_call>{json.dumps(call)}</tool_call>"
    asks = any("JSON" in message.content for message in said if message.role == "user")
    return '{"capital": "Paris"}' if asks else "one two three"


def example(schema: Any) -> Any:
    """Return the simplest value of a JSON schema."""
    if "enum" in schema:
        return schema["enum"][0]
    if "const" in schema:
        return schema["const"]
    match schema.get("type"):
        case "object":
            return {name: example(kind) for name, kind in schema.get("properties", {}).items()}
        case "array":
            return []
        case "boolean":
            return True
        case "integer" | "number":
            return 1
    return "Oslo"


@asynccontextmanager
async def serving() -> AsyncIterator[str]:
    """Serve two such experts, so that there is an encoder; return the URL with ``/v1``."""
    names = ("one", "two")
    experts = {name: FakeExpert(name, answer=obedient) for name in names}
    settings = Settings.model_validate(
        {
            "experts": [{"expert_id": name, "model_path": "fake"} for name in names],
            "lazy_loading": {"enabled": False},
        }
    )
    listener = socket.create_server(("127.0.0.1", 0))
    mind = LiveMind(settings, create=lambda spec: experts[spec.expert_id], embedder=FakeEmbedder)
    async with mind, run_server(create_app(mind), listener):
        yield f"http://127.0.0.1:{listener.getsockname()[1]}/v1"


async def main() -> None:
    """Serve until cancelled."""
    async with serving() as url:
        print(url, flush=True)
        await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main())
