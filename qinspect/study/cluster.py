"""An executor on a Dask cluster that is already running."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import Executor
from contextlib import contextmanager

from qinspect.errors import SpecError, require_extra

_SECONDS_TO_ANSWER = 10


@contextmanager
def dask_executor(address: str) -> Iterator[Executor]:
    """Connect to a Dask scheduler for as long as the block lasts.

    Parameters
    ----------
    address : str
        Such as ``tcp://host:8786``.  Workers with one thread each (``--nthreads 1``) serve best:
        TensorFlow runs one study at a time in a process.

    Yields
    ------
    concurrent.futures.Executor

    Raises
    ------
    MissingExtraError
        If Dask is not installed.
    SpecError
        If no scheduler answers at the address.
    """
    try:
        from distributed import Client
    except ImportError as error:
        raise require_extra("dask[distributed]", "dask", "a sweep on a Dask cluster") from error
    try:
        client = Client(address, timeout=_SECONDS_TO_ANSWER)
    except (OSError, TimeoutError, ValueError) as error:
        raise SpecError(
            f"no Dask scheduler answers at {address!r}; give an address such as "
            "tcp://host:8786, as 'dask scheduler' prints it."
        ) from error
    with client:
        # Impure: a run that failed is really done again, not answered from memory.
        yield client.get_executor(pure=False)
