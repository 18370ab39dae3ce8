"""The suite's own rules: what its report says, when it certifies, and that nothing a store does stops it."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from typing import Any

import pytest
from hypothesis.strategies import SearchStrategy

from redicts.contract import (
    CHECKS,
    HOSTILE_SEGMENTS,
    HOSTILE_VALUES,
    Examination,
    Harness,
    ManualClock,
    Need,
    Report,
    SharedBackend,
    Status,
    certify,
)
from redicts.contract.check import conformance_check as register_check
from redicts.contract.fixture import Fixture
from redicts.contract.interruption import Interrupt, Points, trace
from redicts.contract.subjects import Loss
from redicts.core.backend import Backend, Capabilities
from redicts.core.minitransaction import Outcome, Put, Transaction
from redicts.errors import StoreError
from tests.contract.harnesses import InstanceHarness, MemoryHarness
from tests.contract.reference_model import DictBackend

CHECKS_BY_NAME = {check.name: check for check in CHECKS}

QUICK = tuple(
    check
    for check in CHECKS
    if check.name.split(".")[0] in {"capabilities", "conditions", "counters", "replies", "processes", "ttl"}
)


class _Declaring(DictBackend):
    """Declares processes, and has a harness without an opener."""

    declared = Capabilities(ttl=True, processes=True, durable=False, atomic_entries=None)


class _Raising(DictBackend):
    """Raises an error in every transaction that writes."""

    def execute(self, transaction: Transaction, /) -> Outcome:
        if transaction.writes:
            raise StoreError("the disk is on fire")
        return super().execute(transaction)


class _Hanging(DictBackend):
    """Never answers a put."""

    def execute(self, transaction: Transaction, /) -> Outcome:
        if any(isinstance(write, Put) for write in transaction.writes):
            threading.Event().wait(60)
        return super().execute(transaction)


class _Bare(Harness):
    """A harness without optional hooks."""

    def open(self) -> Backend:
        return SharedBackend(_STORE)


class _Closed(Harness):
    """A harness whose store cannot be opened."""

    def open(self) -> Backend:
        raise StoreError("the server is down")


_STORE = _Declaring(ManualClock())


@pytest.fixture(scope="module")
def memory_report() -> Report:
    """Return the report of the quick checks on the memory backend."""
    return certify(MemoryHarness(), checks=QUICK, seed=7)


def test_the_report_names_every_check(memory_report: Report) -> None:
    """The text and the dict of a report name each selected check with its result."""
    text = str(memory_report)
    told = memory_report.to_dict()["checks"]
    assert [each["check"] for each in told] == [check.name for check in QUICK]
    for check in QUICK:
        assert check.name in text


def test_the_report_says_where_it_comes_from(memory_report: Report) -> None:
    """The report names the versions, the platform, the seed, the backend and its declared capabilities."""
    told = memory_report.to_dict()
    assert told["seed"] == 7
    assert told["backend"] == "MemoryBackend"
    assert told["harness"] == "MemoryHarness"
    declared = {
        "ttl": True,
        "processes": False,
        "durable": False,
        "push": True,
        "documents": True,
        "changes": True,
        "sharded": False,
    }
    assert told["capabilities"] == {**declared, "atomic_entries": None}
    assert set(told["about"]) == {"redicts", "contract", "hypothesis", "python", "platform"}
    assert "seed 7" in str(memory_report)


def test_a_report_is_json(memory_report: Report) -> None:
    """The dict of a report survives JSON unchanged."""
    told = memory_report.to_dict()
    assert json.loads(json.dumps(told)) == told


def test_a_report_of_failures_is_json() -> None:
    """So does that of a refused store, with its reasons and tracebacks."""
    told = certify(InstanceHarness(_Raising), checks=QUICK[:20]).to_dict()
    assert json.loads(json.dumps(told)) == told
    assert not told["certified"]


def test_a_failure_tells_the_rule_and_the_pages() -> None:
    """A failed check tells what the store did, the rule, and the pages to read, in text, in JSON and alone."""
    report = certify(InstanceHarness(_Raising), checks=[CHECKS_BY_NAME["writes.delete_removes_its_scope"]])
    [result] = report.results
    pages = ["docs/contract.md#writes-and-reads", "docs/rules.md#writes"]
    for text in (str(report), str(result)):
        assert "the disk is on fire" in text
        assert f"rule: {result.says}" in text
        assert f"read: {', '.join(pages)}" in text
    assert report.to_dict()["checks"][0]["read"] == pages


def test_the_report_is_sorted_by_what_users_would_lose(memory_report: Report) -> None:
    """The report counts the checks by what users would lose, the worst first, and says why some did not run."""
    losses = memory_report.to_dict()["losses"]
    told = [each["users would lose"] for each in losses]
    assert told == [loss.value for loss in Loss if loss.value in told]
    assert sum(each["passed"] + each["not run"] for each in losses) == len(QUICK)
    updates = next(each for each in losses if each["users would lose"] == Loss.UPDATES.value)
    reason = "the store does not declare processes"
    assert "processes.processes_lose_no_update" in updates["not examined"][reason]
    text = str(memory_report)
    assert [text.index(loss) for loss in told] == sorted(text.index(loss) for loss in told)
    assert f"since {reason}" in text


def test_undeclared_capabilities_require_no_checks(memory_report: Report) -> None:
    """Checks on an undeclared capability do not run, give that as the reason, and do not block certification."""
    results = {result.check: result for result in memory_report.results}
    result = results["processes.processes_lose_no_update"]
    assert (result.status, result.required) == (Status.NOT_RUN, False)
    assert result.reason == "the store does not declare processes"


def test_a_required_check_that_cannot_run_blocks_certification() -> None:
    """Without a hook that its capabilities require, a store is not certified, and the report names the missing hook."""
    checks = [check for check in CHECKS if check.name.startswith(("capabilities.", "processes.", "replies."))]
    report = certify(_Bare(), checks=checks)
    reasons = {result.check: result.reason for result in report.results if result.status is Status.NOT_RUN}
    assert "opener" in reasons["processes.processes_lose_no_update"]
    assert reasons["replies.a_lost_add_counts_once"] == "the harness cannot drop replies"
    assert not report.with_status(Status.FAILED)
    assert not report.passed
    assert not report.certified
    assert "not run: replies.a_lost_add_counts_once" in str(report)


def test_without_a_network_no_reply_is_lost() -> None:
    """A store that is not networked needs no hook for lost replies."""
    report = certify(MemoryHarness(), checks=[check for check in CHECKS if Need.LOST_REPLIES in check.needs])
    assert {result.required for result in report.results} == {False}


def test_hidden_names_refuse() -> None:
    """A harness that withholds hostile names from its store gets no certificate, even if all checks pass."""

    class Narrow(MemoryHarness):
        names = HOSTILE_SEGMENTS[:20]

    report = certify(Narrow(), checks=QUICK[:3])
    assert not report.with_status(Status.FAILED)
    assert not report.passed
    assert not report.certified
    assert f"withholds {len(HOSTILE_SEGMENTS) - 20} of the suite's names" in str(report)


def test_a_raising_store_is_refused() -> None:
    """A check in which the store raises an error fails, with that error as the reason."""
    report = certify(InstanceHarness(_Raising), checks=QUICK[:20])
    assert not report.passed
    assert not report.certified
    assert {"StoreError: the disk is on fire"} == {
        result.reason.split(" (")[0] for result in report.with_status(Status.FAILED)
    }


def test_a_store_that_cannot_be_opened_is_refused() -> None:
    """If the store cannot be opened, every check fails and its capabilities are unknown."""
    report = certify(_Closed(), checks=QUICK[:20])
    assert {result.status for result in report.results} == {Status.FAILED}
    assert report.capabilities is None
    assert not report.passed
    assert not report.certified
    assert "could not be opened" in str(report)


def test_a_hanging_store_is_refused() -> None:
    """A check that does not end in time fails, and no other check runs after it."""
    report = certify(InstanceHarness(_Hanging), checks=QUICK[3:6], timeout=0.05)
    first, *others = report.results
    assert first.status is Status.FAILED
    assert "did not end" in first.reason
    assert {(result.status, result.required) for result in others} == {(Status.NOT_RUN, True)}


def test_nothing_examined_certifies_nothing() -> None:
    """A report without checks is not a certificate."""
    assert not certify(MemoryHarness(), checks=[]).passed


def test_an_interrupted_call_leaves_no_exception_behind() -> None:
    """At whatever instruction of an ``except`` block: later errors would have the handled one as their context."""

    def interrupt() -> None:
        raise Interrupt

    def handle() -> None:
        try:
            raise ValueError("handled")
        except ValueError:
            pass

    count = trace(handle, Points.EVERY, package="tests").instructions
    assert count > 5
    for at in range(count):
        assert isinstance(trace(handle, Points.EVERY, at, interrupt, "tests").error, Interrupt)
        assert sys.exc_info()[1] is None


def test_a_check_leaves_nothing_behind() -> None:
    """The spaces of the checks are empty afterwards, apart from expired values that this store keeps."""
    harness = InstanceHarness(DictBackend)
    certify(harness, checks=QUICK)
    store = harness.store
    assert isinstance(store, DictBackend)
    lasting = [held for space in store.spaces.values() for held in space.values() if held.deadline is None]
    assert lasting == []


def test_clients_are_closed() -> None:
    """Every client that the suite opened is closed when its check has ended, also after a failure."""
    opened: list[Counting] = []

    class Counting(SharedBackend):
        def __init__(self, shared: Backend) -> None:
            super().__init__(shared)
            self.closed = 0
            opened.append(self)

        def close(self) -> None:
            self.closed += 1

    for store in (DictBackend, _Raising):
        certify(
            InstanceHarness(store, client=Counting),
            checks=[check for check in CHECKS if check.name.startswith(("reads", "threads"))],
        )
    assert opened
    assert all(client.closed for client in opened)


def test_the_same_seed_makes_the_same_examples() -> None:
    """Random examples follow from the seed, and from nothing else."""

    def drawn(seed: int) -> list[str]:
        names: list[str] = []

        class Recording(MemoryHarness):
            def segments(self) -> SearchStrategy[str]:
                return super().segments().map(self.recorded)

            def recorded(self, name: str) -> str:
                if len(names) == 20:
                    raise KeyboardInterrupt  # an error would be shrunk
                names.append(name)
                return name

        Examination(Recording(), seed=seed).examine(CHECKS_BY_NAME["model.the_store_answers_as_the_model"])
        assert len(names) == 20
        return names

    assert drawn(1) == drawn(1) != drawn(2)


def test_the_machine_reports_the_steps() -> None:
    """The reason for a difference from the model lists the steps that lead to it."""

    class Forgetting(DictBackend):
        def store(self, spaces: Any, key: Any, held: Any) -> None:
            if len(key.path) < 3:
                super().store(spaces, key, held)

    check = CHECKS_BY_NAME["model.the_store_answers_as_the_model"]
    result = Examination(InstanceHarness(Forgetting), timeout=4).examine(check)
    assert result.status is Status.FAILED
    assert "\nafter\n  1. " in result.reason


def test_checks_are_stated_once() -> None:
    """A check has a docstring of one sentence, and its name is unique."""
    assert len({check.name for check in CHECKS}) == len(CHECKS)
    for check in CHECKS:
        assert check.says.endswith("."), check
    with pytest.raises(TypeError, match="docstring"):
        register_check()(_unstated)
    with pytest.raises(TypeError, match="two checks"):
        register_check()(CHECKS[0].examine)


def test_hostile_samples_are_distinct() -> None:
    """No hostile segment is empty, and no segment or value is repeated."""
    assert all(HOSTILE_SEGMENTS)
    assert len(set(HOSTILE_SEGMENTS)) == len(HOSTILE_SEGMENTS)
    assert len(set(HOSTILE_VALUES)) == len(HOSTILE_VALUES)


def test_the_suite_does_without_pytest() -> None:
    """The suite runs without pytest installed."""
    code = (
        "import sys; sys.modules['pytest'] = None\n"
        "from redicts.contract import CHECKS, Harness, SharedBackend, certify\n"
        "from redicts.backends.memory import MemoryBackend\n"
        "store = MemoryBackend()\n"
        "class Memory(Harness):\n"
        "    networked = False\n"
        "    def open(self): return SharedBackend(store)\n"
        "report = certify(Memory(), checks=CHECKS[:30])\n"
        "assert report.passed, report\n"
    )
    subprocess.run([sys.executable, "-W", "error", "-c", code], check=True, timeout=60)


def _unstated(fixture: Fixture) -> None:
    pass
