"""One case of ``livemind bench kernels``. A value."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

Arm = Callable[[], object]


@dataclass(slots=True)
class Case:
    """One kernel on one input: our arm, its peers on the same data, and what it moves."""

    kernel: str
    name: str
    ours: Arm
    peers: dict[str, Arm] = field(default_factory=dict)
    bytes: int = 0  # read and written, each once
    operations: int = 0  # multiplications and additions, where they are the limit
    scalar: bool = True
    work: str = ""
    absent: list[str] = field(default_factory=list)

    def vllm(self, make: Callable[[], Arm]) -> None:
        """Add vLLM's own op, or note why it is not there."""
        try:
            import vllm._custom_ops  # noqa: F401  # loads the extension that fits this processor

            self.peers["vllm"] = make()
            self.peers["vllm"]()
        except Exception as exc:  # a peer that is missing or cannot do the case is no failure
            self.peers.pop("vllm", None)
            self.absent.append(f"vllm: {type(exc).__name__}: {exc}"[:200])
