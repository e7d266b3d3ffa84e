"""Says before anything is loaded whether experts can run here, from their files alone.

Loads no weights, imports no torch. ``examine`` is the door; the rest of the package is its parts.
"""

from __future__ import annotations

from .engine_imports import import_failures
from .examination import Question, Subject, examine
from .findings import Examination, ExpertFacts, Finding, MemoryPlan
from .number_formats import Host, this_host

__all__ = [
    "Examination",
    "ExpertFacts",
    "Finding",
    "Host",
    "MemoryPlan",
    "Question",
    "Subject",
    "examine",
    "import_failures",
    "this_host",
]
