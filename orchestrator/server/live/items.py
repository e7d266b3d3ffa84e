"""What frames about items that stand in a conversation do to them."""

from __future__ import annotations

from ...item_events import ItemRetrieved
from ...items import SessionItems
from .frames import ItemDelete, ItemRetrieve, ItemTruncate


def changed_item(
    items: SessionItems, frame: ItemTruncate | ItemDelete | ItemRetrieve
) -> ItemRetrieved | None:
    """Truncate, delete or show an item; return the event that shows it, for who asked alone.

    Raises:
        LiveMindError: as the methods of ``SessionItems``.
    """
    match frame:
        case ItemTruncate():
            items.truncate(
                frame.item_id,
                frame.characters,
                audio_end_ms=frame.audio_end_ms,
                words=frame.spoken_words,
                duration_ms=frame.duration_ms,
            )
            return None
        case ItemDelete():
            items.delete(frame.item_id)
            return None
        case ItemRetrieve():
            return ItemRetrieved(items.retrieve(frame.item_id).view())
