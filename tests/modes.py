"""How tests run graphs: without a compiler, which takes longer than a few evaluations do."""

from __future__ import annotations

from pytensor.compile.mode import Mode, get_default_mode

USELESS = "local_greedy_distributor"
"""A rewrite that changes nothing here and takes half of the time."""

PYTHON = Mode(linker="py", optimizer=None)
"""The graph as it was built."""

SIMPLIFIED = Mode(linker="py", optimizer="fast_compile").excluding(USELESS)
"""With the simplest rewrites, where what they make of a gradient matters."""

REWRITTEN = Mode(linker="py", optimizer="fast_run").excluding("fusion", USELESS)
"""With PyTensor's rewrites, but for those that fuse operations, and ours."""

COMPILED = get_default_mode().excluding(USELESS)
"""As for users, but for that rewrite."""
