"""How an operator of vLLM is replaced: only one that looks as known, and with a way back."""

from __future__ import annotations

import functools
import inspect
import logging
import sys
from collections.abc import Callable, Sequence
from types import ModuleType
from typing import Any, TypeVar

from .. import dispatch

log = logging.getLogger("vllm.livemind_kernels")

KNOWN_VERSION = (0, 32)

Function = TypeVar("Function", bound=Callable[..., Any])


class Different(Exception):
    """This vLLM is not the one that an operator was written for; the message says in what."""


def require_known_vllm() -> None:
    """Check that this process's vLLM is one that we know, on a CPU with compiled kernels.

    Raises:
        Different: it is not; the message says in what.
    """
    import vllm
    from vllm.platforms import current_platform

    if not current_platform.is_cpu():
        raise Different("vLLM does not compute on the CPU")
    if dispatch.isa() == "numpy":
        raise Different("the compiled kernels are not installed")
    version = tuple(int(part) for part in vllm.__version__.split(".")[:2])
    if version != KNOWN_VERSION:
        known = ".".join(map(str, KNOWN_VERSION))
        raise Different(f"written for vLLM {known}, this is {vllm.__version__}")


def attribute(home: Any, name: str, parameters: Sequence[str]) -> Any:
    """Return a function of vLLM that takes these parameters, in this order.

    Raises:
        Different: there is none.
    """
    found = getattr(home, name, None)
    where = getattr(home, "__name__", str(home))
    if not callable(found):
        raise Different(f"{where} has no {name}")
    if list(inspect.signature(found).parameters) != list(parameters):
        raise Different(f"{where}.{name} takes other parameters")
    return found


def replace(home: ModuleType, name: str, made: Callable[..., Any]) -> None:
    """Replace a function in its module and wherever vLLM has already imported it from there."""
    original = getattr(home, name)
    for module in list(sys.modules.values()):
        if module is None or not module.__name__.startswith("vllm."):
            continue
        if vars(module).get(name) is original:
            setattr(module, name, made)


def falling_back(operator: str, original: Callable[..., Any]) -> Callable[[Function], Function]:
    """Make a replacement that leaves a call which it cannot do to vLLM's own function.

    The kernels check their arguments before they write, so vLLM's function finds them unchanged.
    Said once per operator.
    """

    def decorate(ours: Function) -> Function:
        @functools.wraps(original)
        def call(*args: Any, **kwargs: Any) -> Any:
            try:
                return ours(*args, **kwargs)
            except Exception as error:
                say_once(operator, error)
                return original(*args, **kwargs)

        return call  # type: ignore[return-value]

    return decorate


_said: set[str] = set()


def say_once(operator: str, error: Exception) -> None:
    """Log what an operator could not do, the first time it happens."""
    if operator not in _said:
        _said.add(operator)
        why = " ".join(str(error).split())
        log.warning("LiveMind kernels: %s leaves calls to vLLM: %s", operator, why)
