"""Passages from your own search instead of the bridge.

python examples/own_retriever.py [configs/embedded.json]
"""

import asyncio
import sys

from livemind import (
    LiveMind,
    Passage,
    ResponseDone,
    ResponseTextDelta,
    RetrievalResult,
    load_settings,
)

NOTES = {"kestrel": "The port of Kestrel is 4100.", "heron": "The timeout of Heron is 30 s."}


class Notes:
    """Finds notes by their names. Called for half-typed text too, and cancelled when it is late."""

    async def retrieve(
        self, query: str, *, revision: int, partial: bool, deadline_ms: float, session_id: str
    ) -> RetrievalResult:
        """Return the notes that the query names, best first."""
        words = query.lower().split()
        found = [name for name in NOTES if any(word.startswith(name) for word in words)]
        passages = tuple(Passage(name, f"{name}.md", NOTES[name], 1.0) for name in found)
        return RetrievalResult(revision, passages)

    async def aclose(self) -> None:
        """Nothing is open here."""


async def main(config: str) -> None:
    """Ask one question and say which notes the answer was given."""
    async with (
        LiveMind(load_settings(config), retriever=Notes()) as mind,
        mind.session(retrieval=True) as session,
    ):
        async for event in session.commit("What is the port of Kestrel?"):
            if isinstance(event, ResponseTextDelta):
                print(event.delta, end="", flush=True)
            elif isinstance(event, ResponseDone):
                print(f"\nfrom {', '.join(event.documents.before) or 'no note'}")


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1] if len(sys.argv) > 1 else "configs/embedded.json"))
