"""The kernels inside vLLM on a CPU: an entry point of the group ``vllm.general_plugins``.

vLLM calls ``entry.register`` in each of its processes before it builds anything, also in ``vllm
serve``.
``choice.py`` says which operators there are and who chooses; each has a module of its own. An
operator that this vLLM has in another form stays vLLM's, one that fails on a call leaves that call
to vLLM's own, and nothing raises into vLLM.
"""
