"""Run a job for many keys on local processes or on any executor; the dead are named."""

from __future__ import annotations

import logging
import multiprocessing
import os
import sys
import threading
import time
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
from contextlib import ExitStack, contextmanager, nullcontext
from multiprocessing.connection import Connection
from types import ModuleType
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


# Arguments of the job by key.
Tasks = Mapping[str, tuple[Any, ...]]
# What `processes` gives: ``run(job, tasks, until=None)``.
Run = Callable[..., Iterator[tuple[str, Any]]]


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
    job: Callable[..., Any], tasks: Tasks, workers: int, *, runs_per_process: int = 10
) -> Iterator[tuple[str, Any]]:
    """``(key, job(*arguments))`` from fresh local processes, as they finish; see `processes`."""
    if tasks:
        with processes(min(workers, len(tasks)), runs_per_process=runs_per_process) as run:
            yield from run(job, tasks)


@contextmanager
def processes(
    workers: int, *, runs_per_process: int = 10, script: bool = True
) -> Iterator[Run]:
    """A function ``run(job, tasks, until=None)`` on local processes that stay for its next call.

    It gives ``(key, job(*arguments))`` as they finish.  When a worker dies, all runs that were
    under way are tried again, each alone in a new process; one whose process dies then, too, is the
    cause, and its result is a ``BrokenExecutor``.  Where a run has not begun at the time ``until``
    (of ``perf_counter``), it raises a TimeoutError.  ``script``: a process imports the script that
    started it, as a job or its arguments may need.
    """
    # Processes are replaced after ``runs_per_process`` runs, on average: TensorFlow keeps some
    # 100 MB of every study (measured: 0.8 GB after one, 1.9 GB after eleven).
    held = ExitStack()
    pool, left = held.enter_context(_local_pool(workers, script)), workers * runs_per_process

    def run(
        job: Callable[..., Any], tasks: Tasks, until: float | None = None
    ) -> Iterator[tuple[str, Any]]:
        nonlocal pool, left
        waiting, suspects = deque(tasks), deque[str]()
        while waiting or suspects:
            alone = bool(suspects)
            source, width = (suspects, 1) if alone else (waiting, workers)
            if alone or not left:
                held.close()
                pool, left = (held.enter_context(_local_pool(width, script)),
                              width * runs_per_process)
            queue = deque(source.popleft() for _ in range(min(len(source), left)))
            left -= len(queue)
            lost: list[str] = []
            try:
                for key, result in _drain(pool, job, tasks, queue, width, until):
                    if isinstance(result, BrokenExecutor):
                        lost.append(key)
                    else:
                        yield key, result
            except BaseException:
                # Nobody waits for what the others do.
                left = 0
                held.__exit__(*sys.exc_info())
                raise
            if alone or lost:
                left = 0
            source.extendleft(reversed(queue))
            if alone:
                yield from ((key, BrokenExecutor(WORKER_DIED)) for key in lost)
            else:
                suspects.extend(lost)

    with held:
        yield run


def _drain(
    pool: Executor, job: Callable[..., Any], tasks: Tasks, queue: deque[str], width: int,
    until: float | None,
) -> Iterator[tuple[str, Any]]:
    """Work off the queue, ``width`` jobs at once, until it is empty or the pool breaks."""
    # Only what a worker has really begun is handed out, so that a death can be laid at its door.
    running: dict[Future[Any], str] = {}
    broken = False
    while running or (queue and not broken):
        left = None if until is None or not queue else until - time.perf_counter()
        if left is not None and left <= 0:
            raise TimeoutError("the time is over.")
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
        for future in wait(running, left, FIRST_COMPLETED).done:
            error = future.exception()
            broken = broken or isinstance(error, BrokenExecutor)
            if error is not None and not isinstance(error, BrokenExecutor):
                raise error
            yield running.pop(future), error or future.result()


def run_on_executor(
    job: Callable[..., Any], tasks: Tasks, executor: Executor
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
def _local_pool(workers: int, script: bool) -> Iterator[ProcessPoolExecutor]:
    """Processes that start clean and end with their parent, however it ends."""
    if multiprocessing.current_process().daemon:
        raise _cannot_start(RuntimeError("this process is a daemon, which may have none"))
    context = multiprocessing.get_context("spawn")
    try:
        alive, held = context.Pipe(duplex=False)
        pool = ProcessPoolExecutor(
            workers, mp_context=context, initializer=_start_worker, initargs=(alive,)
        )
    except (OSError, RuntimeError, ImportError) as error:
        raise _cannot_start(error) from error
    try:
        # Python's pool watches a new process only from its next event on: without one, the death
        # of the last process started is noticed when another run ends, maybe hours later.
        with nullcontext() if script else _without_script():
            try:
                first = [pool.submit(os.getpid) for _ in range(workers)]
            except (OSError, RuntimeError) as error:
                raise _cannot_start(error) from error
        wait(first)
        if not script and (died := first[0].exception()):
            raise _cannot_start(died)
        yield pool
        pool.shutdown()
    finally:
        # On an error or Ctrl-C this is what ends the workers; their finished steps are on disk.
        held.close()
        pool.shutdown(wait=False, cancel_futures=True)
        alive.close()


def _cannot_start(error: BaseException) -> QinspectError:
    why = getattr(error, "strerror", None) or " ".join(str(error).split()) or type(error).__name__
    return QinspectError(f"cannot start worker processes: {why.rstrip('.')}.")


@contextmanager
def _without_script() -> Iterator[None]:
    """Let processes that start meanwhile not import the script, which need not expect it."""
    # What a script without a guard does, a process that imports it does again: train, and write.
    script, sys.modules["__main__"] = sys.modules["__main__"], ModuleType("__main__")
    try:
        yield
    finally:
        sys.modules["__main__"] = script


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
