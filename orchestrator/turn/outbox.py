"""The bounded way out of a session: its events in order, for one reader."""

from __future__ import annotations

from ..event_queue import EventQueue
from ..events import Event

Outbox = EventQueue[Event]
