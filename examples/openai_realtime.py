"""The official OpenAI client's Realtime API, text alone, with a head start for typed text.

pip install "openai[realtime]"; python examples/openai_realtime.py [http://127.0.0.1:8000]
"""

import asyncio
import json
import sys
from typing import Any

from openai import AsyncOpenAI

QUESTION = "What is the port of Kestrel?"


async def until(connection: Any, kind: str) -> Any:
    """Return the next event of a kind; print the text that comes before it."""
    while (event := await connection.recv()).type != kind:
        if event.type == "error":
            raise SystemExit(event.error.message)
        if event.type == "response.output_text.delta":
            print(event.delta, end="", flush=True)
    return event


async def ask(connection: Any, text: str) -> Any:
    """Put a question into the conversation and have it answered."""
    content = [{"type": "input_text", "text": text}]
    item = {"type": "message", "role": "user", "content": content}
    await connection.conversation.item.create(item=item)
    await connection.response.create()
    return (await until(connection, "response.done")).response


async def main(url: str) -> None:
    """Type a question and ask it; then say that its answer was interrupted, and ask again."""
    client = AsyncOpenAI(base_url=f"{url}/v1", api_key="none")
    async with client, client.realtime.connect(model="auto") as connection:
        session = {"type": "realtime", "output_modalities": ["text"], "instructions": "Be brief."}
        await connection.session.update(session=session)
        words = QUESTION.split()
        for count in range(1, len(words) + 1):  # what the API lacks: text that grows
            frame = {"type": "input_text.replace", "text": " ".join(words[:count])}
            await connection.send_raw(json.dumps(frame))
            await asyncio.sleep(0.3)
        done = await ask(connection, QUESTION)
        print(f"\n{done.status}: {done.usage.output_tokens} tokens")
        item_id = done.output[0].id
        truncate = connection.conversation.item.truncate
        await truncate(item_id=item_id, content_index=0, audio_end_ms=500)
        done = await ask(connection, "Say that again, please.")
        print(f"\n{done.status}: {done.usage.output_tokens} tokens")


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1] if len(sys.argv) > 1 else "http://127.0.0.1:8000"))
