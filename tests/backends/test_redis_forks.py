"""Forks: a child uses its parent's backend over connections and sessions of its own, and gets its own replies."""

from __future__ import annotations

import itertools
import multiprocessing
import os
import pickle
import sys
import threading
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from types import FrameType
from typing import Any, Final

import pytest

from redicts import Pool, root
from redicts.backends.redis import RedisBackend
from redicts.backends.redis.connections import Connections
from redicts.core.minitransaction import Add, Put
from tests.backends.redis_tools import configuration, contents, data, examine_layout, front, key, opened, values, write
from tests.support.servers import RedisServer
from tests.support.waiting import TIMEOUT, eventually

EACH: Final = 100


class Child:
    """A forked process that runs a function. :meth:`result` waits for the result."""

    def __init__(self, function: Callable[[], Any]) -> None:
        self._reading, writing = os.pipe()
        with warnings.catch_warnings():
            # Newer Pythons warn about forks of programs with threads, which is what these tests need.
            warnings.simplefilter("ignore", DeprecationWarning)
            self.pid = os.fork()
        if self.pid == 0:
            status = 1
            try:
                os.close(self._reading)
                try:
                    result: Any = function()
                except BaseException as error:
                    result = error
                with os.fdopen(writing, "wb") as pipe:
                    pickle.dump(result, pipe)
                status = 0
            finally:
                os._exit(status)
        os.close(writing)

    def result(self) -> Any:
        """Wait until the child ends. Return what it returned, or raise what it raised."""
        with os.fdopen(self._reading, "rb") as pipe:
            text = pipe.read()
        assert os.waitpid(self.pid, 0)[1] == 0
        result = pickle.loads(text)
        if isinstance(result, BaseException):
            raise result
        return result


def count(backend: RedisBackend, times: int = EACH) -> list[int]:
    """Count up so many times, and return the sums."""
    return [write(backend, Add(key("n"), 1)).counters[0] for _ in range(times)]


def sessions(server: RedisServer) -> set[bytes]:
    """Return the names of all sessions."""
    found = contents(server)
    return found.keys.keys() - found.data().keys()


@pytest.fixture
def backend(redis_server: RedisServer) -> Iterator[RedisBackend]:
    """Give a backend that has been used, so that a child inherits a connection and a session."""
    with opened(redis_server, max_connections=8) as backend:
        write(backend, Put(key("n"), b"0"))
        yield backend


def test_parent_and_child_count_concurrently(backend: RedisBackend, redis_server: RedisServer) -> None:
    """Both count at the same time, and each sum is returned once."""
    child = Child(lambda: count(backend))
    counters = count(backend) + child.result() + count(backend)
    assert sorted(counters) == list(range(1, 3 * EACH + 1))
    assert data(redis_server) == {b"v:": {b"n": b"%d" % (3 * EACH)}}
    examine_layout(contents(redis_server))


def test_sessions_are_not_shared(backend: RedisBackend, redis_server: RedisServer) -> None:
    """A child numbers requests in sessions of its own. With the parent's it would get the parent's replies."""
    before = sessions(redis_server)
    child = Child(lambda: count(backend, 3))
    assert child.result() == [1, 2, 3]
    childs = sessions(redis_server) - before
    assert len(before) == len(childs) == 1
    assert count(backend, 3) == [4, 5, 6]
    assert sessions(redis_server) == before | childs


def test_a_child_does_not_close_its_parents_connection(backend: RedisBackend, redis_server: RedisServer) -> None:
    """Whether a child closes the backend or ends without that, the parent's connection stays open."""
    listed = redis_server.command("CLIENT", "LIST", "TYPE", "NORMAL")
    assert isinstance(listed, bytes)
    ids = {line.split()[0] for line in listed.splitlines()}
    Child(backend.close).result()
    Child(lambda: count(backend, 2) and None).result()
    assert count(backend, 1) == [3]
    listed = redis_server.command("CLIENT", "LIST", "TYPE", "NORMAL")
    assert isinstance(listed, bytes)
    assert len(ids & {line.split()[0] for line in listed.splitlines()}) == 1, "the parent's connection is the same"


def test_many_children(backend: RedisBackend) -> None:
    """Several children and their children count concurrently, and each sum is returned once."""

    def with_child_of_its_own() -> list[int]:
        child = Child(lambda: count(backend, 20))
        return count(backend, 20) + list(child.result())

    children = [Child(with_child_of_its_own) for _ in range(4)]
    counters = [total for child in children for total in child.result()]
    assert sorted(counters) == list(range(1, 4 * 40 + 1))


def test_a_fork_while_threads_write(backend: RedisBackend, redis_server: RedisServer) -> None:
    """Whatever other threads of the parent do during a fork, they and the child write correctly."""
    ended = threading.Event()
    counted: list[int] = []

    def go_on() -> None:
        while not ended.is_set():
            counted.append(write(backend, Add(key("n"), 1)).counters[0])

    with ThreadPoolExecutor(4) as threads:
        going = [threads.submit(go_on) for _ in range(4)]
        eventually(lambda: len(counted) > 20, "the threads write")
        try:
            for _ in range(10):
                counted.extend(Child(lambda: count(backend, 5)).result())
        finally:
            ended.set()
        for each in going:
            each.result(TIMEOUT)
    assert sorted(counted) == list(range(1, len(counted) + 1))
    assert data(redis_server) == {b"v:": {b"n": b"%d" % len(counted)}}


def test_no_thread_of_a_child_uses_its_parents_connections(backend: RedisBackend, redis_server: RedisServer) -> None:
    """Also when several threads make a child's first calls at once, none uses connections or sessions of its parent.

    Each child runs another thread's call at one line of its first call, the next child at the next line.
    """

    def call_at_step(number: int) -> tuple[list[int], int]:
        counters: list[int] = []
        steps = 0

        def step(frame: FrameType, event: str, _argument: Any) -> Any:
            nonlocal steps
            # While the connections of a process are made, its other threads wait for them.
            makes = {frame.f_code, frame.f_back and frame.f_back.f_code}
            if frame.f_code.co_filename not in sources or Connections.__init__.__code__ in makes:
                return None
            steps += event == "line"
            if event == "line" and steps == number:
                other = threading.Thread(target=lambda: counters.extend(count(backend, 1)))
                other.start()
                other.join(TIMEOUT)
            return step

        sys.settrace(step)
        try:
            counters += count(backend, 1)
        finally:
            sys.settrace(None)
        return counters, steps

    sources = {code.co_filename for code in (RedisBackend.execute.__code__, Connections.call.__code__)}
    (session,) = sessions(redis_server)
    total = 0
    for number in itertools.count(1):
        counters, steps = Child(lambda number=number: call_at_step(number)).result()  # type: ignore[misc]
        assert sorted(counters) == list(range(total + 1, total + len(counters) + 1)), f"at step {number}"
        total += len(counters)
        record = contents(redis_server).keys[session]
        assert isinstance(record, bytes)
        assert int(record[:16]) == 1, f"at step {number} a child used its parent's session"
        if number > steps:
            break
    assert number > 10, "the steps were seen"
    assert count(backend, 1) == [total + 1]


def in_a_process(cfg: dict[str, Any], times: int, queue: Any) -> None:
    """Count through the front, in a process of multiprocessing."""
    if Pool().settings.options.model_dump()["port"] != cfg["port"]:
        Pool().reload(cfg=cfg)
    queue.put([root()["n"].add(1) for _ in range(times)])


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_processes_of_multiprocessing(redis_server: RedisServer, method: str) -> None:
    """Forked processes inherit the settings and spawned ones are given them. Both count correctly."""
    context: Any = multiprocessing.get_context(method)
    cfg = configuration(redis_server)
    with front(redis_server) as tree, warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        tree["n"].add(1)
        queue = context.Queue()
        processes = [context.Process(target=in_a_process, args=(cfg, 30, queue)) for _ in range(2)]
        for process in processes:
            process.start()
        counters = [tree["n"].add(1) for _ in range(30)]
        for _ in processes:
            counters += queue.get(timeout=60)
        for process in processes:
            process.join(60)
            assert process.exitcode == 0
            process.close()
        queue.close()
        queue.join_thread()
        assert sorted(counters) == list(range(2, 92))


def test_a_child_reads_what_the_parent_wrote(backend: RedisBackend) -> None:
    """After a fork, parent and child see each other's writes."""
    write(backend, Put(key("from", "parent"), b"1"))

    def read_and_write() -> Any:
        found = values(backend, "from", "parent")
        write(backend, Put(key("from", "child"), b"2"))
        return found

    assert Child(read_and_write).result() == {(): b"1"}
    assert values(backend, "from", "child") == {(): b"2"}
