"""Live typing over the WebSocket of a running server (make serve).

python examples/live_websocket.py [http://127.0.0.1:8000]
"""

import asyncio
import sys

from livemind import LiveMindError, ResponseDone, ResponseTextDelta
from livemind.client import LiveClient, LiveEvent

QUESTION = "What is the port of Kestrel?"
KEY_S = 0.05


def show(event: LiveEvent, received_s: float) -> None:
    """Print what the server tells; of the answer only its text, which comes after the commit."""
    if isinstance(event, ResponseTextDelta):
        print(event.delta, end="", flush=True)
    elif isinstance(event, ResponseDone):
        print(f"\n{event.status}: {event.timings}")
    else:
        print(type(event).__name__)


async def main(url: str) -> None:
    """Give the text so far at every key, then declare it final and read the answer."""
    async with LiveClient(url) as client, client.session(observe=show) as session:
        for end in range(1, len(QUESTION) + 1):
            session.replace(QUESTION[:end])
            await asyncio.sleep(KEY_S)
        async for _ in session.commit():
            pass


if __name__ == "__main__":
    try:
        asyncio.run(main(sys.argv[1] if len(sys.argv) > 1 else "http://127.0.0.1:8000"))
    except LiveMindError as error:
        raise SystemExit(error.message) from None
