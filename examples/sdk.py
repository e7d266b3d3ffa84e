"""A question that is typed, answered without a server.

python examples/sdk.py [configs/embedded.json]
"""

import asyncio
import sys

from livemind import LiveMind, PrefillUpdated, ResponseDone, ResponseTextDelta, RouteUpdated

QUESTION = "What is the port of Kestrel?"
KEY_S = 0.05


async def main(config: str) -> None:
    """Type the question key by key, commit, print what happens."""
    async with LiveMind.from_config(config) as mind, mind.session() as session:
        for key in QUESTION:
            session.append(key)
            await asyncio.sleep(KEY_S)
        async for event in session.commit():
            match event:
                case RouteUpdated():
                    print(f"route: {event.expert} ({event.confidence:.2f})")
                case PrefillUpdated():
                    print(f"prefill: {event.tokens_ready} of {event.tokens_total}")
                case ResponseTextDelta():
                    print(event.delta, end="", flush=True)
                case ResponseDone():
                    print(f"\n{event.status} by {event.expert}, ledger: {event.ledger}")


if __name__ == "__main__":  # engines import this module again in processes of their own
    asyncio.run(main(sys.argv[1] if len(sys.argv) > 1 else "configs/embedded.json"))
