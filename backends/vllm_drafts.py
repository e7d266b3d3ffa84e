"""The former place of ``backends.vllm.drafts``, named in the arguments of deployed servers."""

from .vllm.drafts import DraftProposer, DraftWorker

__all__ = ["DraftProposer", "DraftWorker"]
