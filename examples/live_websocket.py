"""Live typing over the WebSocket of a running server (make serve).

python examples/live_websocket.py [http://127.0.0.1:8000]
"""

import asyncio
import sys

import aiohttp

QUESTION = "What is the port of Kestrel?"
KEY_S = 0.05


async def type_and_commit(socket: aiohttp.ClientWebSocketResponse) -> None:
    """Send the text so far at every key, then declare it final."""
    await socket.send_json({"type": "session.update"})
    for end in range(1, len(QUESTION) + 1):
        await socket.send_json({"type": "input_text.replace", "text": QUESTION[:end]})
        await asyncio.sleep(KEY_S)
    await socket.send_json({"type": "input_text.commit"})


async def main(url: str) -> None:
    """Print every event; the answer's text only after the commit, as the server sends it."""
    async with (
        aiohttp.ClientSession() as http,
        http.ws_connect(f"{url}/v1/live") as socket,
        asyncio.TaskGroup() as group,
    ):
        group.create_task(type_and_commit(socket))
        async for message in socket:
            event = message.json()
            match event["type"]:
                case "response.output_text.delta":
                    print(event["delta"], end="", flush=True)
                case "response.done":
                    print(f"\n{event['status']}: {event['timings']}")
                    return
                case "error":
                    raise SystemExit(event["error"]["message"])
                case kind:
                    print(kind)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1] if len(sys.argv) > 1 else "http://127.0.0.1:8000"))
