"""Run a job for many keys on local processes or on any executor; the dead are named."""

from __future__ import annotations

import logging
import multiprocessing
import os
import threading
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import (
    FIRST_COMPLETED,
    BrokenExecutor,
    Executor,
    Future,
    ProcessPoolExecutor,
    as_completed,
    wait,
)
from contextlib import contextmanager
from multiprocessing.connection import Connection
from typing import Any

from qinspect.errors import QinspectError, SpecError, require_extra

# Read by TensorFlow when its runtime starts and by OpenMP libraries when they load.
_THREAD_VARIABLES = ("OMP_NUM_THREADS", "TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS")
# TensorFlow's Keras session belongs to the whole process: jobs in threads of one process (a Dask
# worker with several threads) take turns.
_TURN = threading.Lock()
_SECONDS_TO_ANSWER = 10
WORKER_DIED = (
    "the worker process died twice in this run, the second time while it ran alone (killed, out "
    "of memory or a crash in native code; a script that starts a sweep needs an "
    "'if __name__ == \"__main__\":' guard)."
)


def cores() -> int:
    """Cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def refuse_in_worker_import() -> None:
    """Refuse to start anew in a worker that is importing the script which started it."""
    # The mark by which multiprocessing itself knows such a process.
    if getattr(multiprocessing.current_process(), "_inheriting", False):
        raise SpecError(
            "every process that a script starts imports the script; put what it calls under "
            "'if __name__ == \"__main__\":', or run one training (repeats=1).")


@contextmanager
def one_thread() -> Iterator[None]:
    """Hold TensorFlow, if it has not started yet, to one thread, and jobs to one at a time."""
    with _TURN:
        before = {name: os.environ.get(name) for name in _THREAD_VARIABLES}
        os.environ.update(dict.fromkeys(_THREAD_VARIABLES, "1"))
        try:
            yield
        finally:
            for name, value in before.items():
                if value is None:
                    os.environ.pop(name, None)
                else:
                    os.environ[name] = value


def run_on_processes(
    job: Callable[..., Any], tasks: Mapping[str, tuple[Any, ...]], workers: int, *,
    runs_per_process: int = 10,
) -> Iterator[tuple[str, Any]]:
    """``(key, job(*arguments))`` from fresh local processes, as they finish.

    When a worker dies, all runs that were under way are tried again, each alone in a new process;
    one whose process dies then, too, is the cause, and its result is a ``BrokenExecutor``.
    """
    # Processes are replaced after ``runs_per_process`` runs, on average: TensorFlow keeps some
    # 100 MB of every study (measured: 0.8 GB after one, 1.9 GB after eleven).
    waiting, suspects = deque(tasks), deque[str]()
    while waiting or suspects:
        alone = bool(suspects)
        source, width = (suspects, 1) if alone else (waiting, min(workers, len(waiting)))
        count = min(len(source), width * runs_per_process)
        queue = deque(source.popleft() for _ in range(count))
        with _local_pool(width) as pool:
            lost: list[str] = []
            for key, result in _drain(pool, job, tasks, queue, width):
                if isinstance(result, BrokenExecutor):
                    lost.append(key)
                else:
                    yield key, result
        source.extendleft(reversed(queue))
        if alone:
            yield from ((key, BrokenExecutor(WORKER_DIED)) for key in lost)
        else:
            suspects.extend(lost)


def _drain(
    pool: Executor, job: Callable[..., Any], tasks: Mapping[str, tuple[Any, ...]],
    queue: deque[str], width: int,
) -> Iterator[tuple[str, Any]]:
    """Work off the queue, ``width`` jobs at once, until it is empty or the pool breaks."""
    # Only what a worker has really begun is handed out, so that a death can be laid at its door.
    running: dict[Future[Any], str] = {}
    broken = False
    while running or (queue and not broken):
        while queue and len(running) < width and not broken:
            try:
                future = pool.submit(job, *tasks[queue[0]])
            except BrokenExecutor as refused:
                broken = True
                if not running:
                    # Broken before it took anything: the first run answers for it.
                    yield queue.popleft(), refused
            else:
                running[future] = queue.popleft()
        for future in wait(running, return_when=FIRST_COMPLETED).done:
            error = future.exception()
            broken = broken or isinstance(error, BrokenExecutor)
            if error is not None and not isinstance(error, BrokenExecutor):
                raise error
            yield running.pop(future), error or future.result()


def run_on_executor(
    job: Callable[..., Any], tasks: Mapping[str, tuple[Any, ...]], executor: Executor
) -> Iterator[tuple[str, Any]]:
    """The same on an executor of the caller; where it gave a run up, the result is an exception."""
    futures: dict[Future[Any], str] = {}
    try:
        for key, arguments in tasks.items():
            futures[executor.submit(job, *arguments)] = key
        for future in as_completed(futures):
            try:
                result = future.result()
            except Exception as error:
                if isinstance(error, BrokenExecutor):
                    raise
                result = error
            yield futures[future], result
    except BrokenExecutor as error:
        raise QinspectError(
            "the executor's workers died; finished runs are kept, so run the sweep again with a "
            "new executor."
        ) from error
    finally:
        for future in futures:
            future.cancel()


@contextmanager
def _local_pool(workers: int) -> Iterator[ProcessPoolExecutor]:
    """Processes that start clean and end with their parent, however it ends."""
    context = multiprocessing.get_context("spawn")
    try:
        alive, held = context.Pipe(duplex=False)
        pool = ProcessPoolExecutor(
            workers, mp_context=context, initializer=_start_worker, initargs=(alive,)
        )
    except OSError as error:
        raise QinspectError(
            f"cannot start worker processes: {error.strerror or type(error).__name__}."
        ) from error
    try:
        # Python's pool watches a new process only from its next event on: without one, the death
        # of the last process started is noticed when another run ends, maybe hours later.
        wait([pool.submit(os.getpid) for _ in range(workers)])
        yield pool
        pool.shutdown()
    finally:
        # On an error or Ctrl-C this is what ends the workers; their finished steps are on disk.
        held.close()
        pool.shutdown(wait=False, cancel_futures=True)
        alive.close()


def _start_worker(alive: Connection) -> None:
    """End this process when the parent closes its end of the pipe, which its death does, too."""
    import signal

    # LiteRT and TensorFlow chat on both; standard output belongs to the parent's --json.
    sink = os.open(os.devnull, os.O_WRONLY)
    os.dup2(sink, 1)
    os.dup2(sink, 2)
    os.close(sink)

    # Ctrl-C reaches the whole terminal group; the parent decides and closes the pipe.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    os.environ.update(dict.fromkeys(_THREAD_VARIABLES, "1"))

    def watch() -> None:
        alive.poll(None)
        os._exit(1)

    threading.Thread(target=watch, daemon=True, name="qinspect-parent-watch").start()


@contextmanager
def _silent(name: str) -> Iterator[None]:
    """Hold a logger's tongue: of a dead scheduler Dask logs tracebacks, and the runs tell it."""
    logger = logging.getLogger(name)
    level = logger.level
    logger.setLevel(logging.CRITICAL + 1)
    try:
        yield
    finally:
        logger.setLevel(level)


@contextmanager
def dask_executor(address: str) -> Iterator[Executor]:
    """An executor on a Dask scheduler, ``tcp://host:8786``, for as long as the block lasts."""
    # Workers with one thread each serve best: TensorFlow runs one study at a time in a process.
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
    with _silent("distributed.client"), client:
        # Impure: a run that failed is really done again, not answered from memory.
        yield client.get_executor(pure=False)
