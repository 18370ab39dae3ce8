"""Exceptions and calls that come between two instructions of redicts: from signal handlers, and from finalizers.

Whichever instruction an exception comes before, the store stays usable from every thread, each transaction is whole, no
lock stays held or waited for, and the caller gets that exception. A call that comes there works, or raises
``StoreBusy`` at once.

Each case is tried at some of its instructions, chosen by a fixed seed, in the long run at thousands of them.
"""

from __future__ import annotations

import gc
import itertools
import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any, Final, NamedTuple

import pytest

import redicts
from redicts import Database, StoreBusy
from redicts.contract.interruption import Interrupt, Points, Traced, sample, trace
from redicts.core.locks.acquisition import Timing
from redicts.errors import LockTimeout
from tests.support.servers import RedisServer
from tests.support.waiting import eventually
from tests.support.workers import Hung, Worker

pytestmark = pytest.mark.usefixtures("no_collections")

LONG: Final = os.environ.get("REDICTS_TESTS") == "long"
POINTS: Final = 300 if LONG else 4
"""How many instructions of each case are tried: in the long run, 10,000 per backend."""

RAISE_AT: Final = Points[os.environ.get("REDICTS_INTERRUPTS", "REACHED")]
"""Where exceptions come: with ``STRICT`` also where CPython raises none, to try an implementation harder."""

BACKENDS: Final = ("memory", "fakeredis", "sqlite", "redis")

SECONDS: Final = 8.0
"""How long a call may take that nothing delays, before it counts as one that never ends."""

OLD: Final = {f"leaf{number}": 0 for number in range(20)}
NEW: Final = {f"leaf{number}": 1 for number in range(20)}


class Scene:
    """A database, the thread that is interrupted, and another one."""

    def __init__(self, db: Database) -> None:
        self.db: Final = db
        self.victim: Final = Worker("victim")
        self.witness: Final = Worker("witness")
        self.numbers: Final = itertools.count()
        db.store.timing = Timing(waiter_ttl=2.0, heartbeat=0.5, first_heartbeat=0.3)

    def witnessed(self, function: Callable[[], Any], what: str) -> Any:
        return self.witness(function, f"another thread, {what},", SECONDS)

    def suffered(self, function: Callable[[], Any], what: str) -> Any:
        return self.victim(function, f"the thread, {what},", SECONDS)

    def use(self) -> None:
        """Use everything once, in the running thread."""
        number = next(self.numbers)
        assert self.db.proxy("").set("used", {"x": number})["used"].val() == {"x": number}
        with self.db.lock("used"):
            self.db.proxy("used").set("y", number)
        assert self.db.proxy("used").val() == {"x": number, "y": number}

    def is_whole(self) -> None:
        found = self.db.proxy("tree").val()
        assert found in (OLD, NEW), f"a transaction is torn: {found}"

    def nothing_is_locked(self) -> None:
        lock = self.db.lock()
        eventually(lambda: not lock.holders(), "no lock is left", within=SECONDS / 2)
        eventually(lambda: not lock.waiters(), "no waiter is left", within=SECONDS / 2)

    def held(self) -> list[str]:
        return [name for name in ("lock", "lock.below", "other", "tree", "visit") if self.db.lock(name).held]

    def check(self) -> None:
        """Check what must be true after every interruption."""
        self.witnessed(self.use, "using the store")
        self.suffered(self.use, "using the store")
        self.witnessed(self.is_whole, "reading the tree")
        self.witnessed(self.nothing_is_locked, "looking for locks")
        held = self.suffered(self.held, "looking for its locks")
        assert not held, f"the thread holds {held}"


class Case(NamedTuple):
    """A call that is interrupted, what precedes it, and what follows it, all by the same thread."""

    call: Callable[[Scene], object]
    before: Callable[[Scene], object] = lambda scene: None
    after: Callable[[Scene], object] = lambda scene: None


def _transaction(scene: Scene) -> None:
    with scene.db.proxy("tree").transaction() as changes:
        for name in NEW:
            changes.set(name, 1)


def _edit(**options: Any) -> Callable[[Scene], None]:
    def call(scene: Scene) -> None:
        with scene.db.proxy("tree").edit(**options) as value:
            if not options.get("shared"):
                value.update(NEW)

    return call


def _edit_in_a_lock(scene: Scene) -> None:
    with scene.db.lock("tree"):
        _edit()(scene)


def _edit_in_turn(scene: Scene) -> None:
    """Edit a contended value several times, so that its lock is retained."""
    for _ in range(6):
        with scene.db.proxy("lock").edit() as value:
            value["x"] = value.get("x", 0) + 1


def _fill_and_drain(scene: Scene) -> None:
    mapping = scene.db.proxy("other").mapping()
    mapping["item"] = {"x": 1}
    assert mapping.setdefault("item", {}) == {"x": 1}
    assert mapping.popitem()[0]


def _wait(scene: Scene) -> None:
    """Acquire a lock that another thread frees when this one waits."""
    with scene.db.lock("lock"):
        pass


def _release_soon(scene: Scene) -> None:
    """Let another thread hold the lock, and release it when somebody waits, or after a while."""
    taken = threading.Event()

    def hold() -> None:
        with suppress(redicts.RedictsError), scene.db.lock("lock") as lock:
            taken.set()
            until = time.monotonic() + 0.05
            while not lock.waiters() and time.monotonic() < until:
                pass

    threading.Thread(target=hold, daemon=True).start()
    assert taken.wait(SECONDS)


def _hold(scene: Scene) -> None:
    scene.witnessed(scene.db.lock("lock").acquire, "acquiring")


def _let_go(scene: Scene) -> None:
    scene.witnessed(scene.db.lock("lock").release, "releasing")


def _try(scene: Scene) -> None:
    with suppress(redicts.StoreTimeout):  # the call in between may take all the time that there is
        assert scene.db.lock("lock.below").acquire(blocking=False) is False


def _wait_in_vain(scene: Scene) -> None:
    try:
        scene.db.lock("lock", acquire_timeout=0.02).acquire()
    except (LockTimeout, redicts.StoreTimeout):
        return
    raise AssertionError("the lock was granted twice")


def _lock(**options: Any) -> Callable[[Scene], None]:
    def call(scene: Scene) -> None:
        with scene.db.lock("lock", **options), scene.db.lock("lock.below"):
            scene.db.proxy("lock").set("x", 1)

    return call


def _function(scene: Scene) -> None:
    """Call a function under a lock, which leaves its own to an ``ExitStack``."""

    @scene.db.proxy("lock").locked(timeout=5)
    def work() -> None:
        with ExitStack() as stack:
            stack.enter_context(scene.db.lock("other"))
            scene.db.proxy("lock").set("x", 1)

    work()


def _acquire_in_time(scene: Scene) -> None:
    lock = scene.db.lock("lock")
    assert lock.acquire(timeout=5)
    with suppress(redicts.NotHeld):
        lock.release()


def _acquire_and_release(scene: Scene) -> None:
    lock = scene.db.lock("lock")
    assert lock.acquire()
    with suppress(redicts.NotHeld):
        lock.release()


def _retain(scene: Scene) -> None:
    """Reacquire a contended lock, so that it is retained, and another one, so that it is given back."""
    for _ in range(6):
        with scene.db.lock("lock"):
            pass
    with scene.db.lock("other"):
        pass


def _listen(scene: Scene) -> None:
    listener = scene.db.backend.listen(f"client/{next(scene.numbers)}")
    try:
        listener.wait(0.001)
    finally:
        listener.close()


CASES: Final = {
    "set a leaf": Case(lambda scene: scene.db.proxy("other").set("leaf", 1)),
    "set a dict": Case(lambda scene: scene.db.proxy("").set("tree", NEW)),
    "set a dict with a TTL": Case(lambda scene: scene.db.proxy("").set("tree", NEW, expire=100)),
    "update": Case(lambda scene: scene.db.proxy("tree").update(NEW)),
    "update_with": Case(lambda scene: scene.db.proxy("tree").update_with(lambda _: NEW)),
    "transaction": Case(_transaction),
    "update of a mapping": Case(lambda scene: scene.db.proxy("tree").mapping().update(NEW)),
    "items of a mapping": Case(_fill_and_drain),
    "val": Case(lambda scene: scene.db.proxy("tree").val()),
    "vals": Case(lambda scene: scene.db.proxy("tree").vals("leaf1", [], "leaf2")),
    "put": Case(lambda scene: scene.db.proxy("tree").put(NEW)),
    "add": Case(lambda scene: scene.db.proxy("other.count").add(1)),
    "children": Case(lambda scene: scene.db.proxy("tree").items()),
    "lock": Case(_acquire_and_release),
    "lock with a timeout": Case(_acquire_in_time),
    "lock in a block": Case(_lock()),
    "lock of a function": Case(_function),
    "renewed lock": Case(_lock(renew=True, on_loss=int)),
    "lock that is held": Case(_try, _hold, _let_go),
    "lock that stays held": Case(_wait_in_vain, _hold, _let_go),
    "lock that becomes free": Case(_wait, _release_soon),
    "retained lock": Case(_retain, _release_soon),
    "edit": Case(_edit()),
    "edit under a shared lock": Case(_edit(shared=True, on_loss=int)),
    "edit under a lock that is held": Case(_edit_in_a_lock),
    "edit under a retained lock": Case(_edit_in_turn, _release_soon),
    "listen": Case(_listen),
}


def interrupt() -> None:
    """Raise what a signal handler raises."""
    raise Interrupt


class Finalized:
    """An object of a cycle, whose finalizer calls something."""

    def __init__(self, call: Callable[[], object]) -> None:
        self.myself = self
        self.call = call

    def __del__(self) -> None:
        self.call()


class Visit:
    """A call of redicts that comes between two instructions of another one."""

    def __init__(self, scene: Scene, at: int) -> None:
        self._scene = scene
        self._at = at
        self.problems: list[str] = []

    def __call__(self) -> None:
        kinds = (self._set, self._val, self._lock, self._transaction)
        kind = kinds[self._at % len(kinds)]
        if self._at % 3:
            self._do(kind)
        else:
            Finalized(lambda: self._do(kind))
            gc.collect()

    def _do(self, kind: Callable[[], object]) -> None:
        begun = time.monotonic()
        try:
            kind()
        except StoreBusy:
            pass
        except BaseException as error:
            self.problems.append(f"the call in between raised {error!r}")
        if time.monotonic() - begun > SECONDS / 4:
            self.problems.append("the call in between waited")

    def _set(self) -> None:
        self._scene.db.proxy("visit").set("x", self._at)
        self._val(self._at)

    def _val(self, expected: object = None) -> None:
        found = self._scene.db.proxy("visit").val({}).get("x")
        if expected is not None and found != expected:
            self.problems.append(f"the call in between wrote {expected} and reads {found}")

    def _lock(self) -> None:
        with self._scene.db.lock("visit"):
            self._scene.db.proxy("visit").set("x", self._at)

    def _transaction(self) -> None:
        with self._scene.db.proxy("visit").transaction() as changes:
            changes.set("x", self._at)
            changes.set("y", self._at)


@pytest.fixture
def scene(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Scene]:
    """Open a database of each backend."""
    backend = request.param
    if backend == "fakeredis":
        db = redicts.open(fake_redis=True)
    else:
        cfg: dict[str, Any] = {"backend": backend}
        if backend == "sqlite":
            cfg["path"] = str(tmp_path / "tree.db")
        elif backend == "redis":
            server: RedisServer = request.getfixturevalue("server")
            # With one connection, none may be lost.
            cfg |= {"host": server.host, "port": server.port, "max_connections": 2}
        db = redicts.open(cfg)
    made = Scene(db)
    yield made
    made.victim.end()
    made.witness.end()
    Worker("closing")(db.close, "closing the database", SECONDS)


def explore(
    scene: Scene,
    name: str,
    points: Points,
    act: Callable[[int], Callable[[], object]],
    problem: Callable[[Traced], str],
) -> None:
    """Try a case at some of its instructions. ``problem`` tells what is wrong with a call that was interrupted."""
    case = CASES[name]

    def once(at: int = -1, act: Callable[[], object] = int) -> Traced:
        scene.suffered(lambda: scene.db.proxy("").set("tree", OLD), "preparing")
        scene.suffered(lambda: case.before(scene), "preparing")
        found: Traced = scene.suffered(
            lambda: trace(lambda: case.call(scene), points, at, act, "redicts"), "interrupted"
        )
        scene.suffered(lambda: case.after(scene), "ending")
        return found

    once()  # the first time, more is done
    problems: list[str] = []
    for at in sample(once().instructions, POINTS, name):
        where: str | None = "somewhere"
        try:
            found = once(at, act(at))
            where = found.where
            wrong = problem(found)
            assert not wrong, wrong
            scene.check()
        except Hung as error:
            raise AssertionError("\n".join([*problems, f"{at}, {where}: {error}"])) from None
        except AssertionError as error:
            problems.append(f"{at}, {where}: {error}")
            scene.witnessed(scene.db.lock().break_locks, "tidying up")
    assert not problems, f"{len(problems)} of {POINTS} points:\n" + "\n".join(problems)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("scene", BACKENDS, indirect=True)
def test_an_exception_between_two_instructions_leaves_the_store_whole(scene: Scene, name: str) -> None:
    """An exception at any instruction comes out, and leaves no lock held, nothing torn and nothing waiting."""

    def problem(found: Traced) -> str:
        # The interpreter ignores the exceptions of finalizers.
        comes_out = found.where is not None and "__del__" not in found.where
        return "" if isinstance(found.error, Interrupt) is comes_out else f"it raised {found.error!r}"

    explore(scene, name, RAISE_AT, lambda _: interrupt, problem)


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("scene", BACKENDS, indirect=True)
def test_a_call_between_two_instructions_works_or_is_refused(scene: Scene, name: str) -> None:
    """A call by a signal handler or a finalizer works or raises ``StoreBusy``, and the interrupted one works."""
    visits: list[Visit] = []

    def act(at: int) -> Visit:
        visits.append(Visit(scene, at))
        return visits[-1]

    def problem(found: Traced) -> str:
        raised = [] if found.error is None else [f"the interrupted call raised {found.error!r}"]
        return "; ".join([*raised, *visits[-1].problems])

    explore(scene, name, Points.EVERY, act, problem)
