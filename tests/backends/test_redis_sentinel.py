"""The primary through Sentinels: which one is asked and believed, failovers, credentials, and errors."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final

import pytest
from redis import exceptions

from redicts import AccessDenied, Lock, Pool, Proxy, ReadOnly, SettingsError, Unreachable, aio
from redicts.backends.redis.errors import NoPrimary
from redicts.backends.redis.sentinel import Address, Sentinels
from redicts.core.minitransaction import Add, Put
from tests.backends.redis_tools import front_with, key, opened, opened_with, values, write
from tests.support.ports import bound_socket
from tests.support.proxy import FaultyProxy
from tests.support.sentinels import SERVICE, SentinelProcess, SentinelTrio
from tests.support.servers import RedisServer
from tests.support.waiting import TIMEOUT, eventually

ONE: Final[Address] = ("one", 1)
TWO: Final[Address] = ("two", 2)
THREE: Final[Address] = ("three", 3)
PASSWORD: Final = "secret-of-sentinels"


@pytest.fixture(scope="module")
def trio_with_passwords() -> Iterator[SentinelTrio]:
    """Run servers and Sentinels of the newest version, which have passwords."""
    with SentinelTrio(password=PASSWORD) as trio:
        yield trio


@pytest.fixture
def trio(trio_with_passwords: SentinelTrio) -> SentinelTrio:
    """Give empty servers."""
    trio_with_passwords.primary.flush()
    return trio_with_passwords


def settings(trio: SentinelTrio, **more: Any) -> dict[str, Any]:
    """Return the settings of a client."""
    return {**trio.configuration, "sentinel_password": PASSWORD, "retries": 100, **more}


# Which Sentinel is asked -------------------------------------------------------------------------------------------


def sentinels() -> Sentinels:
    """Return three Sentinels that nobody asks over a network."""
    return Sentinels((ONE, TWO, THREE), "mymaster", dict, 0.5)


def names(host: str, epoch: int = 1, **changes: Any) -> dict[str, Any]:
    """Return the answer of a Sentinel."""
    state = {"ip": host, "port": 6379, "is_master": True, "is_sdown": False, "is_odown": False, "config-epoch": epoch}
    return {"mymaster": {**state, **changes}}


def ask(among: Sentinels, answers: dict[Address, Any]) -> tuple[str, list[Address]]:
    """Return the host of the primary, and which Sentinels were asked."""
    steps, asked = among.asking(10), []
    at, _ = next(steps)
    try:
        while True:
            asked.append(at)
            at, _ = steps.send(answers[at])
    except StopIteration as stop:
        return stop.value[0], asked


def test_sentinels_are_asked_in_turn() -> None:
    """One answer is enough, and the next connection asks the next one."""
    among = sentinels()
    answers = dict.fromkeys((ONE, TWO, THREE), names("a"))
    assert [ask(among, answers) for _ in range(4)] == [("a", [ONE]), ("a", [TWO]), ("a", [THREE]), ("a", [ONE])]


def test_a_silent_sentinel_is_asked_last_until_it_answers() -> None:
    """One that did not answer costs its timeout once, not at each connection."""
    among = sentinels()
    lost = exceptions.ConnectionError("refused")
    answers: dict[Address, Any] = {ONE: lost, TWO: names("a"), THREE: names("a")}
    assert ask(among, answers) == ("a", [ONE, TWO])
    assert [ask(among, answers)[1] for _ in range(3)] == [[THREE], [TWO], [THREE]]
    assert ask(among, {TWO: lost, THREE: lost, ONE: names("b")}) == ("b", [TWO, THREE, ONE])
    assert ask(among, dict.fromkeys((ONE, TWO, THREE), names("b")))[1] == [ONE]


def test_an_older_answer_is_not_believed() -> None:
    """A Sentinel that has not heard of the last failover names the old primary, in an older epoch."""
    among = sentinels()
    old, new = names("old", 1), names("new", 2)
    assert ask(among, {ONE: new})[0] == "new"
    assert ask(among, {TWO: old, THREE: new}) == ("new", [TWO, THREE])
    lost = exceptions.ConnectionError("refused")
    with pytest.raises(NoPrimary, match="has not heard of the last failover") as failed:
        ask(among, {ONE: old, TWO: lost, THREE: lost})
    assert failed.value.passes
    assert ask(among, dict.fromkeys((ONE, TWO, THREE), old))[0] == "old", "all of them were set up again"
    assert len(ask(among, dict.fromkeys((ONE, TWO, THREE), old))[1]) == 1, "believed from now on"


@pytest.mark.parametrize("flag", ["is_sdown", "is_odown"])
def test_a_primary_that_is_down_is_not_named(flag: str) -> None:
    """While a failover is under way, there is no primary, which is worth another attempt."""
    with pytest.raises(NoPrimary, match=r"one:1 says that the primary is down.*two:2.*three:3") as failed:
        ask(sentinels(), dict.fromkeys((ONE, TWO, THREE), names("a", **{flag: True})))
    assert failed.value.passes


def test_time_for_asking_is_bounded() -> None:
    """When the time for connecting is over, no other Sentinel is asked."""
    with pytest.raises(NoPrimary, match="none answered in time"):
        next(sentinels().asking(-1))


# Failovers ---------------------------------------------------------------------------------------------------------


def test_a_replica_that_is_promoted_meanwhile_accepts_the_write(server: RedisServer) -> None:
    """READONLY ends the connection, and the request is sent again over a new one: a name may lead elsewhere by now."""
    with RedisServer() as other, FaultyProxy(server.port) as proxy:
        server.command("REPLICAOF", other.host, other.port)
        try:
            with opened(proxy, retries=2) as backend, pytest.raises(ReadOnly) as failed:
                write(backend, Add(key("n"), 1))
            assert not failed.value.maybe_applied
            assert proxy.connections >= 3
            with opened(proxy, retries=1_000) as backend, ThreadPoolExecutor(1) as thread:
                writing = thread.submit(write, backend, Add(key("n"), 1))
                eventually(lambda: proxy.connections > 5, "the write is refused and sent again")
                server.command("REPLICAOF", "NO", "ONE")
                assert writing.result(TIMEOUT).counters == (1,)
        finally:
            server.command("REPLICAOF", "NO", "ONE")


def test_a_primary_without_its_replicas_accepts_the_write_when_they_are_back(server: RedisServer) -> None:
    """NOREPLICAS, of ``min-replicas-to-write``, is tried again."""
    server.command("CONFIG", "SET", "min-replicas-to-write", 1)
    try:
        with opened(server, retries=1_000) as backend, ThreadPoolExecutor(1) as thread:
            writing = thread.submit(write, backend, Add(key("n"), 1))
            eventually(lambda: int(server.info("stats")["total_error_replies"]) > 3, "the write is refused")
            with RedisServer(replica_of=server):
                assert writing.result(TIMEOUT).counters == (1,)
    finally:
        server.command("CONFIG", "SET", "min-replicas-to-write", 0)


# Credentials and errors --------------------------------------------------------------------------------------------


def test_both_kinds_of_servers_have_credentials_of_their_own(trio: SentinelTrio) -> None:
    """The user and password of a URL are those of the servers; parameters are those of the Sentinels."""
    trio.primary.command("ACL", "SETUSER", "app", "on", ">secret-of-app", "~*", "&*", "+@all")
    hosts = ",".join(each.address for each in trio.sentinels)
    url = f"redis+sentinel://app:secret-of-app@{hosts}/0?service={SERVICE}&sentinel_password={PASSWORD}"
    with front_with(url) as tree:
        tree.set("a", 1)
        assert b"user=app" in trio.primary.command("CLIENT", "LIST")  # type: ignore[operator]
        shown = repr(Pool().settings) + repr(Pool().get_connection()) + repr(Pool().database().backend)
        assert PASSWORD not in shown
        assert "secret-of-app" not in shown
        assert asyncio.run(_value_of("a")) == 1


async def _value_of(name: str) -> Any:
    return await aio.root()[name].val()


@pytest.mark.parametrize("wrong", [{"sentinel_password": "wrong-secret"}, {"sentinel_password": None}])
def test_wrong_credentials_of_sentinels(trio: SentinelTrio, wrong: dict[str, str]) -> None:
    """They are refused at once, and the error names the settings to correct."""
    with opened_with({**_options(trio), **wrong}) as backend:
        with pytest.raises(AccessDenied, match="correct sentinel_username and sentinel_password") as failed:
            write(backend, Put(key("a"), b"1"))
        assert "wrong-secret" not in str(failed.value)
        assert trio.sentinels[0].address in str(failed.value)


def test_the_documented_user_of_sentinels(trio: SentinelTrio) -> None:
    """One command is enough, and without it the error names it."""
    for sentinel in trio.sentinels:
        sentinel.command("ACL", "SETUSER", "redicts", "on", ">another-password", "-@all", "+sentinel|masters")
        sentinel.command("ACL", "SETUSER", "nobody", "on", ">another-password", "-@all")
    for user in "redicts", "nobody":
        given = {"sentinel_username": user, "sentinel_password": "another-password"}
        with opened_with({**_options(trio), **given}) as backend:
            if user == "nobody":
                with pytest.raises(AccessDenied, match=r"allow \+sentinel\|masters"):
                    write(backend, Put(key("a"), b"1"))
            else:
                write(backend, Put(key("a"), b"1"))


def test_sentinels_with_tls() -> None:
    """``rediss+sentinel://`` encrypts both kinds of connections; ``sentinel_tls`` chooses for the Sentinels alone."""
    with RedisServer(tls=True) as server, SentinelProcess(server.executable, tls=server.directory) as encrypted:
        watch = [f"sentinel monitor {SERVICE} {server.host} {server.port} 1"]
        encrypted.configure(watch)
        eventually(lambda: encrypted.state()[b"flags"] == b"master", "the Sentinel sees the primary")
        files = {"tls_ca_file": str(server.certificate), "retries": 0}
        for sentinel_tls in None, True:
            given = {"sentinels": [encrypted.address], "service": SERVICE, "tls": True, "sentinel_tls": sentinel_tls}
            with opened_with({**given, **files}) as backend:
                write(backend, Put(key("a"), b"1"))
        refusal = pytest.raises(Unreachable, match="cannot be reached")
        with opened_with({**given, **files, "sentinel_tls": False}) as backend, refusal:
            write(backend, Put(key("a"), b"1"))
        with front_with(f"rediss+sentinel://{encrypted.address}/0?service={SERVICE}&tls_ca_file={server.certificate}"):
            assert asyncio.run(_value_of("a")) == 1


def test_an_unknown_service(trio: SentinelTrio) -> None:
    """The error says which services the Sentinels watch."""
    refusal = pytest.raises(Unreachable, match=r"service 'other'.*watches 'mymaster'; correct service")
    with opened_with(_options(trio, service="other")) as backend, refusal:
        write(backend, Put(key("a"), b"1"))


def test_no_sentinel_is_there(server: RedisServer) -> None:
    """The error names each address, and what is wrong there: nobody listens, nobody answers, or another server."""
    with bound_socket() as free, bound_socket() as silent:
        silent.listen()
        addresses = [("127.0.0.1", each.getsockname()[1]) for each in (free, silent)] + [(server.host, server.port)]
        given = {"sentinels": addresses, "service": "mymaster", "retries": 0, "sentinel_timeout_secs": 0.1}
        with opened_with(given) as backend, pytest.raises(Unreachable) as failed:
            write(backend, Put(key("a"), b"1"))
    text = str(failed.value)
    assert f"127.0.0.1:{addresses[0][1]} cannot be reached" in text
    assert f"127.0.0.1:{addresses[1][1]} does not answer" in text
    assert f"{server.host}:{server.port} is not a Sentinel" in text


def test_a_dead_sentinel_costs_nothing(trio: SentinelTrio) -> None:
    """The others are asked."""
    with bound_socket() as free:
        addresses = [f"127.0.0.1:{free.getsockname()[1]}", trio.sentinels[2].address]
        with opened_with(_options(trio, sentinels=addresses, retries=0)) as backend:
            write(backend, Put(key("a"), b"1"))
            assert values(backend, "a") == {(): b"1"}


def _options(trio: SentinelTrio, **more: Any) -> dict[str, Any]:
    return {name: value for name, value in settings(trio, **more).items() if name != "backend"}


# Settings ----------------------------------------------------------------------------------------------------------


def test_addresses_have_several_forms() -> None:
    """Text with and without a port, pairs as redis-py has them, and IPv6."""
    given = ["a", "b:1", ("c", 2), ["::1", 3], "[::2]:4"]
    Pool().reload(cfg={"backend": "redis", "sentinels": given, "service": "s"})
    assert Pool().settings.options.sentinels == ("a:26379", "b:1", "c:2", "[::1]:3", "[::2]:4")  # type: ignore[attr-defined]
    Pool().reload(cfg="rediss+sentinel://a,b:1,[::2]:4/3?service=s")
    options: Any = Pool().settings.options
    assert (options.sentinels, options.default_database, options.tls) == (("a:26379", "b:1", "[::2]:4"), 3, True)
    Pool().reload(cfg={"backend": "memory"})


@pytest.mark.parametrize(
    ("cfg", "text"),
    [
        ({"sentinels": ["a"]}, "give service"),
        ({"service": "s"}, "service given without sentinels"),
        ({"sentinels": ["a"], "service": "s", "host": "b"}, "sentinels exclude host"),
        ({"sentinels": "a:1", "service": "s"}, "must be a list"),
        ({"sentinels": ["a:0"], "service": "s"}, "host:26379"),
        ({"sentinels": ["a b"], "service": "s"}, "host:26379"),
        ({"sentinels": [1], "service": "s"}, "host:26379"),
        ({"sentinels": ["a"], "service": "s", "sentinel_tls_ca_file": "f"}, "set sentinel_tls"),
        ("redis+sentinel://a,b/0", "give service"),
        ("redis+sentinel://a,/0?service=s", "host:26379"),
        ("redis+sentinel://a/0?service=s&sentinels=b", "has the parameter 'sentinels'"),
    ],
    ids=str,
)
def test_wrong_settings(cfg: Any, text: str) -> None:
    """What does not go together is refused, and the error says what to do."""
    with pytest.raises(SettingsError, match=text):
        Pool().reload(cfg=cfg if isinstance(cfg, str) else {"backend": "redis", **cfg})


def test_errors_name_the_sentinels() -> None:
    """Errors name the service and the Sentinels."""
    with bound_socket() as free:
        given = {"sentinels": [free.getsockname()], "service": "mymaster", "retries": 0}
        with opened_with(given) as backend, pytest.raises(Unreachable, match=r"redis at mymaster of the Sentinels 127"):
            write(backend, Put(key("a"), b"1"))


# The test that ends the primary is the last one, so that no other one waits until all servers are back.


def test_clients_follow_a_failover(trio: SentinelTrio) -> None:
    """A killed primary is replaced without a reload: for threads, tasks, locks, waiters, and the client of redis-py."""
    trio.wait_until_whole()
    with front_with(settings(trio, acknowledged_by=1)) as tree, ThreadPoolExecutor(3) as threads:
        lock, owned, released = Lock(Pool(), "a", expire_timeout=60), threading.Event(), threading.Event()
        waiting = threads.submit(_hold_and_release, lock, owned, released)
        assert owned.wait(TIMEOUT)
        waiter = threads.submit(_acquire, Lock(Pool(), "a", acquire_timeout=3 * TIMEOUT))
        eventually(lock.waiters, "the lock is waited for")
        before = trio.primary

        async def main() -> None:
            assert await aio.root()["n"].add(1) == 1
            await asyncio.to_thread(before.kill)
            threads.submit(_ask_again, trio, before)
            assert await aio.root()["n"].add(1) == 2, "the call outlasts the failover"
            async with aio.Proxy("b"):
                assert await aio.root()["n"].add(1) == 3

        asyncio.run(asyncio.wait_for(main(), 3 * TIMEOUT))
        assert tree["n"].add(1) == 4
        assert trio.primary is not before
        assert lock.holders()
        released.set()
        waiting.result(TIMEOUT)
        assert waiter.result(TIMEOUT)
        assert Pool().get_connection().hget("v:", "n") == b"4"


def _ask_again(trio: SentinelTrio, before: RedisServer) -> None:
    """Ask for a failover if the Sentinels have given one up."""
    with contextlib.suppress(AssertionError):
        eventually(lambda: trio.primary is not before, "the Sentinels promote a replica", within=TIMEOUT)
    if trio.primary is before:
        trio.fail_over()


def _hold_and_release(lock: Lock, owned: threading.Event, released: threading.Event) -> None:
    with lock:
        owned.set()
        assert released.wait(3 * TIMEOUT)
        Proxy("a").set("guarded", 1)


def _acquire(lock: Lock) -> bool:
    with lock:
        return bool(Proxy("a")["guarded"].val() == 1)
