"""The harness made from settings: how it opens the store, its faults, and its secrets."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import pytest
from pydantic import SecretStr

from redicts.backends.memory import plugin as memory
from redicts.backends.redis import plugin as redis
from redicts.backends.redis.settings import RedisSettings
from redicts.backends.sqlite import plugin as sqlite
from redicts.backends.sqlite.settings import SqliteSettings
from redicts.contract import CHECKS, ConformanceCheck, SharedBackend, Status, Store, StoreHarness, certify
from redicts.contract.check import CAPABILITIES
from redicts.contract.examination import Examination
from redicts.contract.fault_proxy import FaultProxy
from redicts.contract.probes import PROBES
from redicts.core.backend import BackendPlugin
from redicts.core.minitransaction import Transaction
from redicts.core.plugin_settings import NoSettings
from tests.contract.distributions import ShopSettings, modest, open_shop, shop, telltale
from tests.contract.harnesses import InstanceHarness
from tests.contract.reference_model import LimitedBackend
from tests.support.servers import RedisServer
from tests.support.waiting import eventually


def chosen(*names: str) -> tuple[ConformanceCheck, ...]:
    """Return the checks whose names begin so."""
    return tuple(check for check in CHECKS if check.name.startswith(names))


def test_a_store_in_one_instance_is_shared() -> None:
    """A store that declares neither processes nor durable is opened once, and is not networked."""
    harness = StoreHarness(Store(memory, NoSettings()))
    first, second = harness.open(), harness.open()
    assert isinstance(first, SharedBackend)
    assert isinstance(second, SharedBackend)
    assert first.shared is second.shared
    assert not harness.networked
    harness.close()


def test_any_other_store_is_opened_for_each_client(tmp_path: Path) -> None:
    """Each client of a store that outlives an instance opens it, also in another process."""
    harness = StoreHarness(Store(shop, ShopSettings(place=str(tmp_path / "shop.db"))))
    names = ("processes.processes_lose_no_update", "clients.values_outlast_all_clients")
    assert {result.status for result in certify(harness, checks=chosen(*names)).results} == {Status.PASSED}


def test_a_networked_store_needs_lost_replies(tmp_path: Path) -> None:
    """Without host, port and path in the settings, certification needs a harness that drops replies."""
    report = certify(
        StoreHarness(Store(shop, ShopSettings(place=str(tmp_path / "shop.db")))), checks=chosen("replies.a_lost_add")
    )
    [result] = report.results
    assert (result.status, result.required) == (Status.NOT_RUN, True)
    assert result.reason == "the harness cannot drop replies"
    assert not report.passed


def test_a_plugin_that_cannot_be_pickled_is_reported(tmp_path: Path) -> None:
    """If no other process can open the store, the report says why and what to do."""
    plugin = BackendPlugin("shop", ShopSettings, lambda settings, _number: open_shop(settings, 0))
    harness = StoreHarness(Store(plugin, ShopSettings(place=str(tmp_path / "shop.db"))))
    [result] = certify(harness, checks=chosen("processes.processes_lose_no_update")).results
    assert (result.status, result.required) == (Status.NOT_RUN, True)
    assert "make its open a module-level function" in result.reason


def test_undeclared_capabilities_that_work_are_reported(tmp_path: Path) -> None:
    """The probe of an undeclared capability succeeds if the store could declare it."""
    harness = StoreHarness(Store(modest, ShopSettings(place=str(tmp_path / "shop.db"))))
    examination = Examination(harness)
    assert {name: examination.examine(probe).status for name, probe in PROBES.items()} == {
        "ttl": Status.PASSED,
        "processes": Status.PASSED,
        "durable": Status.PASSED,
    }
    harness.close()


def test_probes_fail_for_capabilities_that_do_not_work(tmp_path: Path) -> None:
    """The probe of a capability that does not work fails, and that of a declared one does not run."""
    harness = StoreHarness(Store(memory, NoSettings()))
    examination = Examination(harness)
    assert {name: examination.examine(probe).status for name, probe in PROBES.items()} == {
        "ttl": Status.NOT_RUN,
        "processes": Status.FAILED,
        "durable": Status.FAILED,
    }
    harness.close()


def test_a_needless_limit_is_reported() -> None:
    """A store that accepts more than its declared limit could declare a larger one."""

    class Modest(LimitedBackend):
        def touched(self, transaction: Transaction, now: float) -> int:
            return 0

    [result] = certify(InstanceHarness(Modest), checks=chosen("sizes.one_more_than_declared")).results
    assert result.status is Status.FAILED
    assert "it works, so the store could declare a larger atomic_entries, or None" in result.reason


def test_every_capability_is_counted() -> None:
    """The report counts the checks on each capability, declared or not."""
    spoken_of = set(CAPABILITIES.values())
    assert {"ttl", "processes", "durable", "push", "atomic_entries", "documents", "changes"} <= spoken_of
    assert {capability for check in CHECKS for capability in check.capabilities} == {*spoken_of, "every store"}
    report = certify(StoreHarness(Store(memory, NoSettings())), checks=chosen("processes.", "capabilities."))
    counts = report.counts
    assert counts["every store"] == {"required": 1, "ran": 1, "passed": 1, "not run": 0}
    assert (counts["processes"]["required"], counts["processes"]["passed"]) == (0, 0)
    assert counts["processes"]["not run"] == len([check for check in CHECKS if check.name.startswith("processes.")])


def test_secrets_are_crossed_out(tmp_path: Path) -> None:
    """No form of the report contains a secret, not even if the store puts it into its errors."""
    secrets = ("marker-password", "marker-token", "marker of a url")
    settings = ShopSettings(
        place=str(tmp_path / "shop.db"),
        password=SecretStr(secrets[0]),
        api_token=secrets[1],
        address="shop://user:marker%20of%20a%20url@host",
    )
    store = Store(telltale, settings)
    report = certify(StoreHarness(store), checks=chosen("writes.delete_removes"))
    told = f"{report}\n{json.dumps(report.to_dict())}\n{store!r}"
    assert "cannot log in with ***** and *****" in str(report)
    for secret in (*secrets, "marker%20of"):
        assert secret not in told


def test_a_check_without_a_lost_reply_does_not_count(server: RedisServer) -> None:
    """If no reply was lost, the check counts as not run and blocks certification."""

    class Harmless(StoreHarness):
        def drop_reply(self) -> bool:
            return True

    harness = Harmless(Store(redis, RedisSettings.model_validate({"port": server.port})))
    [result] = certify(harness, checks=chosen("replies.a_lost_add")).results
    harness.close()
    assert (result.status, result.required) == (Status.NOT_RUN, True)
    assert "no reply was lost" in result.reason


def test_the_server_of_a_unix_socket_is_not_disturbed(server: RedisServer) -> None:
    """A client that does not connect through the proxy loses no reply, and the report says so."""
    harness = StoreHarness(Store(redis, RedisSettings.model_validate({"unix_socket": str(server.socket_path)})))
    try:
        results = certify(harness, checks=chosen("capabilities.capabilities", "replies.a_lost_add")).results
    finally:
        harness.close()
    assert [result.status for result in results] == [Status.PASSED, Status.NOT_RUN]
    assert (results[-1].required, results[-1].reason) == (True, "the harness cannot drop replies")


def test_clients_that_cannot_work_follow_from_the_settings(tmp_path: Path) -> None:
    """Settings with a path, or with an address and a password, give clients that fail, and the check examines them."""
    file = StoreHarness(Store(sqlite, SqliteSettings.model_validate({"path": str(tmp_path / "store.db")})))
    with RedisServer(password="marker of a password") as guarded:
        given = {"port": guarded.port, "password": "marker of a password"}
        server = StoreHarness(Store(redis, RedisSettings.model_validate(given)))
        for harness, mistakes in ((file, 2), (server, 3)):
            try:
                assert len(harness.unusable()) == mistakes
                report = certify(harness, checks=chosen("failures.what_cannot"))
            finally:
                harness.close()
            assert report.passed, report
            assert "marker" not in str(report)
    harness = StoreHarness(Store(memory, NoSettings()))
    [result] = certify(harness, checks=chosen("failures.what_cannot")).results
    assert (result.status, result.required) == (Status.NOT_RUN, False)


def test_faults_of_all_connections_are_those_of_the_proxy(server: RedisServer) -> None:
    """The checks on replies that are all lost and on connections that break run with an address in the settings."""
    harness = StoreHarness(Store(redis, RedisSettings.model_validate({"port": server.port})))
    try:
        names = ("failures.a_write_in_doubt", "servers.connections", "servers.listeners")
        results = certify(harness, checks=chosen(*names)).results
    finally:
        harness.close()
    assert [result.status for result in results] == [Status.PASSED] * 3, results


# The fault proxy.


class Echo:
    """A server that echoes each line, and records it."""

    def __init__(self) -> None:
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self.listener.getsockname()[1]
        self.heard: list[bytes] = []
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self.listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        with client, client.makefile("rb") as lines:
            try:
                for line in lines:
                    self.heard.append(line)
                    client.sendall(line)
            except OSError:
                return


class Caller:
    """A client of the echo server."""

    def __init__(self, port: int) -> None:
        self.connection = socket.create_connection(("127.0.0.1", port), 10)
        self._lines: BinaryIO = self.connection.makefile("rb")

    def send(self, line: bytes) -> None:
        self.connection.sendall(line)

    def ask(self, line: bytes) -> bytes:
        self.send(line)
        return self._lines.readline()

    def close(self) -> None:
        self._lines.close()
        self.connection.close()


@pytest.fixture
def echo() -> Iterator[Echo]:
    """Run an echo server."""
    server = Echo()
    yield server
    server.listener.close()


@pytest.fixture
def proxy(echo: Echo) -> Iterator[FaultProxy]:
    """Run a proxy in front of the echo server."""
    between = FaultProxy("127.0.0.1", echo.port)
    yield between
    between.close()


def test_without_a_fault_it_only_forwards(proxy: FaultProxy) -> None:
    """The proxy forwards requests and replies, and counts each pair as one exchange."""
    caller, large = Caller(proxy.port), b"x" * 1_000_000 + b"\n"
    assert [caller.ask(line) for line in (b"a\n", large, b"b\n")] == [b"a\n", large, b"b\n"]
    assert (proxy.connections, proxy.hits) == (1, 0)
    assert proxy.exchanges >= 3
    caller.close()


def test_a_lost_reply_belongs_to_a_request_that_came_through(proxy: FaultProxy, echo: Echo) -> None:
    """The chosen exchange reaches the server, and its client sees the connection end."""
    caller = Caller(proxy.port)
    proxy.lose_reply(2)
    assert caller.ask(b"first\n") == b"first\n"
    assert caller.ask(b"second\n") == b""
    assert echo.heard == [b"first\n", b"second\n"]
    assert proxy.hits == 1
    caller.close()
    again = Caller(proxy.port)
    assert again.ask(b"third\n") == b"third\n"
    again.close()


def test_a_held_request_comes_when_it_is_delivered(proxy: FaultProxy, echo: Echo) -> None:
    """A held request reaches the server after a later one, though its client has given up."""
    impatient, other = Caller(proxy.port), Caller(proxy.port)
    proxy.hold_request()
    impatient.connection.settimeout(0.05)
    with pytest.raises(TimeoutError):
        impatient.ask(b"late\n")
    impatient.close()
    assert other.ask(b"early\n") == b"early\n"
    assert echo.heard == [b"early\n"]
    proxy.deliver()
    assert echo.heard == [b"early\n", b"late\n"]
    other.close()


def test_every_reply_can_be_lost(proxy: FaultProxy, echo: Echo) -> None:
    """Each request reaches the server and its client sees the connection end, until replies are let through again."""
    proxy.loses_every = True
    for line in (b"a\n", b"b\n"):
        caller = Caller(proxy.port)
        assert caller.ask(line) == b""
        caller.close()
    proxy.loses_every = False
    caller = Caller(proxy.port)
    assert caller.ask(b"c\n") == b"c\n"
    assert (echo.heard, proxy.hits) == ([b"a\n", b"b\n", b"c\n"], 2)
    caller.close()


def test_all_connections_break(proxy: FaultProxy) -> None:
    """Idle connections end too, and new ones can be made."""
    callers = [Caller(proxy.port) for _ in range(3)]
    assert [caller.ask(b"a\n") for caller in callers] == [b"a\n"] * 3
    proxy.break_all()
    assert [caller.connection.recv(1) for caller in callers] == [b""] * 3
    again = Caller(proxy.port)
    assert again.ask(b"b\n") == b"b\n"
    for caller in (*callers, again):
        caller.close()


def test_a_fault_can_be_cancelled(proxy: FaultProxy) -> None:
    """A cancelled fault hits no exchange."""
    proxy.lose_reply()
    proxy.hold_request()
    proxy.calm()
    caller = Caller(proxy.port)
    assert caller.ask(b"a\n") == b"a\n"
    caller.close()


def test_a_held_request_never_comes_after_the_end(echo: Echo) -> None:
    """Closing the proxy ends its threads, and a held request is never executed."""
    between = FaultProxy("127.0.0.1", echo.port)
    caller = Caller(between.port)
    between.hold_request()
    caller.send(b"never\n")
    eventually(lambda: between.hits, "the request is held")
    between.close()
    assert echo.heard == []
    caller.close()
