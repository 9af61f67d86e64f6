"""Opens and runs one model; started as a script in a process that may die (see ``sandbox``).

It is run with ``python -I -S``, so it must not import qinspect, and it gets its import path from
its parent.  Arguments: a JSON object with ``path`` (import path), ``memory`` (bytes) and ``cpu``
(seconds).  The model comes on standard input.  On standard output it writes a line for each step
that it begins, then ``ok``, or ``refused`` and the reason.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from typing import Any

STEPS = ("open", "allocate", "invoke")
# Log lines of LiteRT beyond this many bytes are dropped rather than fill the disk.
_MAX_LOG = 4 << 20


def limit(memory: int, cpu: int) -> None:
    """Bound address space, processor time and written files of this process (POSIX only)."""
    try:
        import resource
    except ImportError:  # Windows has no such limits; the parent's timeout still holds.
        return
    wanted = {
        resource.RLIMIT_AS: memory,
        resource.RLIMIT_CPU: cpu,
        resource.RLIMIT_CORE: 0,
        resource.RLIMIT_FSIZE: _MAX_LOG,
    }
    for what, value in wanted.items():
        hard = resource.getrlimit(what)[1]
        if hard != resource.RLIM_INFINITY:
            value = min(value, hard)
        try:
            resource.setrlimit(what, (value, value))
        except (ValueError, OSError):  # macOS refuses some of them
            continue


def run_once(content: bytes, begin: Callable[[str], None]) -> None:
    """Open, allocate and invoke once; ``begin`` is told each step before it starts."""
    # Floats are fed as ones and integers as zeros: the safest values where an input holds a shape,
    # a divisor or an index.
    import numpy as np
    from ai_edge_litert.interpreter import Interpreter

    begin("open")
    interpreter = Interpreter(model_content=content, num_threads=1)
    begin("allocate")
    interpreter.allocate_tensors()
    for detail in interpreter.get_input_details():
        dtype = np.dtype(detail["dtype"])
        if dtype.kind in "SUO":
            value = np.full(detail["shape"], b"a")
        else:
            value = np.full(detail["shape"], 1 if dtype.kind == "f" else 0, dtype)
        interpreter.set_tensor(detail["index"], value)
    begin("invoke")
    interpreter.invoke()


def _main(arguments: dict[str, Any]) -> None:
    limit(arguments["memory"], arguments["cpu"])
    sys.path[:0] = arguments["path"]
    # LiteRT may write to standard output; keep the answers apart.
    answers = os.dup(1)
    os.dup2(2, 1)

    def say(line: str) -> None:
        os.write(answers, (line + "\n").encode())

    content = sys.stdin.buffer.read()
    try:
        run_once(content, say)
    except (ValueError, RuntimeError, TypeError, MemoryError) as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        say(f"refused {reason[:500]}")
    else:
        say("ok")
    # Destructors of a damaged model may crash after the answer is known.
    os._exit(0)


if __name__ == "__main__":
    _main(json.loads(sys.argv[1]))
