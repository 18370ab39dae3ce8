"""Subjects of checks: what users lose if their rules do not hold, and the page that explains them."""

from __future__ import annotations

import re
from enum import Enum
from typing import Final, NamedTuple

RULES: Final = "rules.md"
"""The page that lists the rules by subject."""


class Loss(Enum):
    """What users lose, the worst first."""

    VALUES = "their values: gone, wrong, or those of another key"
    UPDATES = "their updates and locks: lost, halved, applied twice, or held by two"
    ERRORS = "the truth about failures: what was written, and what to do"
    WAITS = "notifications: waiters sleep on"
    SPACE = "memory, disk and open files, which fill up"
    DECLARED = "trust in what a store declares"


class Subject(NamedTuple):
    """What the checks of one module are about."""

    title: str
    loss: Loss
    why: str
    """Why a user cares."""
    page: str
    """The page that explains the rules, and the heading on it."""

    @property
    def anchor(self) -> str:
        """The anchor of the subject on the page of rules."""
        return re.sub(r"[^\w\- ]", "", self.title.lower()).replace(" ", "-")


SUBJECTS: Final[dict[str, Subject]] = {
    "writes": Subject(
        "Writes",
        Loss.VALUES,
        "`set` and `delete` are transactions of several writes. A write that changes more than its scope, or half of "
        "a transaction, leaves a dict that nobody stored.",
        "contract.md#writes-and-reads",
    ),
    "reads": Subject(
        "Reads",
        Loss.VALUES,
        "A program decides by what it reads. Bytes that differ by one are another value, or none that a codec can "
        "decode.",
        "contract.md#writes-and-reads",
    ),
    "names": Subject(
        "Names",
        Loss.VALUES,
        "Names come from users: file names, addresses, any text. If two of them become one key, one user reads and "
        "overwrites the values of another.",
        "contract.md#keys-and-scopes",
    ),
    "counters": Subject(
        "Counters",
        Loss.VALUES,
        "Counters number fencing tokens and whatever users count. A repeated or rounded result gives one number to "
        "two.",
        "contract.md#writes-and-reads",
    ),
    "pairs": Subject(
        "Pairs of writes",
        Loss.VALUES,
        "One transaction often deletes, stores and notifies at one key. If a write does not see the one before, a "
        "value comes back that was deleted, or keeps a TTL that it should not have.",
        "contract.md#other-rules",
    ),
    "pages": Subject(
        "Pages",
        Loss.VALUES,
        "Large dicts are read, copied and exported in pages. A walk that misses a value makes an export that is not "
        "complete, and nobody notices.",
        "contract.md#writes-and-reads",
    ),
    "pages_meanwhile": Subject(
        "Pages, while others write",
        Loss.VALUES,
        "While a program walks over a dict, others delete and rename what is in it. A cursor that refers to what is "
        "gone skips values that were there all the time.",
        "contract.md#writes-and-reads",
    ),
    "sizes": Subject(
        "Sizes",
        Loss.VALUES,
        "A dict that is too large for one transaction must be refused as a whole: half of it would look like all.",
        "contract.md#statuses",
    ),
    "fast_paths": Subject(
        "Fast paths to values",
        Loss.VALUES,
        "Most reads and writes take a fast path. If it answers differently from a transaction, a program reads what "
        "was overwritten or has expired, most of the time.",
        "contract.md#fast-paths-to-one-value",
    ),
    "documents": Subject(
        "Documents",
        Loss.VALUES,
        "A dict that is stored as one text is read leaf by leaf later. Both must be the same.",
        "contract.md#documents",
    ),
    "documents_fast_paths": Subject(
        "Fast paths to documents",
        Loss.VALUES,
        "Reading and replacing a dict takes these. A text that is older than a change of a part of it undoes the "
        "change.",
        "contract.md#documents",
    ),
    "documents_ttl": Subject(
        "TTLs of documents",
        Loss.VALUES,
        "A dict with a TTL ends as a whole, but a part may be renewed or made persistent. A part that ends too early "
        "is lost, and one that comes back is a session that was over.",
        "contract.md#documents",
    ),
    "documents_walks": Subject(
        "Walks over documents",
        Loss.VALUES,
        "A store may split a document between two pages. A walk that loses its position in it misses values.",
        "contract.md#documents",
    ),
    "documents_clients": Subject(
        "Documents and clients",
        Loss.VALUES,
        "A configuration is replaced as a whole while many read it. Half of the old one and half of the new one is a "
        "configuration that nobody wrote.",
        "contract.md#documents",
    ),
    "databases": Subject(
        "Databases",
        Loss.VALUES,
        "Tests and tenants are put into databases of their own. Anything that crosses over deletes or shows the data "
        "of others.",
        "contract.md#other-rules",
    ),
    "clients": Subject(
        "Clients",
        Loss.VALUES,
        "A program opens a store in several modules. A client that answers from its memory is out of date, and one "
        "that closes what others use takes them along.",
        "contract.md#other-rules",
    ),
    "raw": Subject(
        "Stored bytes",
        Loss.VALUES,
        "Another program, a backup or the next version reads what is stored. A backend that remembers what it wrote "
        "can pass each other check, and the values are gone when it restarts.",
        "contract.md#writes-and-reads",
    ),
    "model": Subject(
        "All together",
        Loss.VALUES,
        "Users combine everything with everything. A random search finds the combinations of which no author thought.",
        "contract.md#keys-and-scopes",
    ),
    "conditions": Subject(
        "Conditions",
        Loss.UPDATES,
        "Locks and optimistic updates are conditions. One that holds where it should fail gives a lock to two owners,"
        " or overwrites what another one wrote.",
        "contract.md#conditions",
    ),
    "threads": Subject(
        "Threads",
        Loss.UPDATES,
        "Servers call one instance from many threads. A transaction that is not atomic loses updates under load, and "
        "never in a test.",
        "contract.md#other-rules",
    ),
    "processes": Subject(
        "Processes",
        Loss.UPDATES,
        "Workers share a store. Atomicity within one process alone loses updates as soon as there are two workers.",
        "contract.md#other-rules",
    ),
    "forks": Subject(
        "Forks",
        Loss.UPDATES,
        "Servers fork workers, at any moment of other threads. A child with the lock or the connection of its parent "
        "hangs, or reads the answers to the questions of its parent.",
        "contract.md#other-rules",
    ),
    "interruptions": Subject(
        "Interruptions",
        Loss.UPDATES,
        "Ctrl-C, a timeout by a signal, or a finalizer comes at any instruction. A lock that stays held blocks the "
        "process for good.",
        "contract.md#other-rules",
    ),
    "tasks": Subject(
        "asyncio",
        Loss.UPDATES,
        "Services cancel tasks all the time: a client hangs up, a timeout ends. A reply that then goes to the next "
        "request is the answer to another question, and a write that comes late overwrites a newer one.",
        "contract.md#asyncio",
    ),
    "replies": Subject(
        "Lost replies",
        Loss.UPDATES,
        "Connections break after a request was executed. A client that sends it again counts twice, or overwrites "
        "what another one wrote in between.",
        "contract.md#other-rules",
    ),
    "clock": Subject(
        "Clock",
        Loss.UPDATES,
        "A lease that is renewed in time must never seem over, and one that is over must never seem held: either "
        "gives a lock to two owners.",
        "contract.md#other-rules",
    ),
    "ttl": Subject(
        "TTLs",
        Loss.UPDATES,
        "A TTL that gets lost keeps a lock or a session without end. One that is too short ends it under its owner.",
        "contract.md#other-rules",
    ),
    "expired": Subject(
        "Expired values",
        Loss.UPDATES,
        "A value that has expired may still be stored. Where it counts, a lock cannot be taken over, or a session "
        "comes back.",
        "contract.md#other-rules",
    ),
    "failures": Subject(
        "Failures",
        Loss.ERRORS,
        "A program decides by an error whether to try again. An untrue one makes it write twice or not at all, and "
        "one with a password ends in a log.",
        "contract.md#failures",
    ),
    "servers": Subject(
        "Servers that restart",
        Loss.ERRORS,
        "A server is updated at night. Clients that do not go on must be restarted by somebody.",
        "contract.md#a-server-that-restarts",
    ),
    "notifications": Subject(
        "Notifications",
        Loss.WAITS,
        "A release notifies the next owner of a lock. A notification that gets lost leaves it asleep while the lock "
        "is free.",
        "contract.md#waiting-to-be-notified",
    ),
    "listeners": Subject(
        "Listeners",
        Loss.WAITS,
        "Each waiting thread has a listener. One that misses a call, or polls instead of sleeping, delays or burdens "
        "all others.",
        "contract.md#waiting-to-be-notified",
    ),
    "changes": Subject(
        "Changes",
        Loss.WAITS,
        "A program that watches a setting acts on it. One that is not told of a change goes on with the old value.",
        "contract.md#changes",
    ),
    "waits": Subject(
        "Waits of any length",
        Loss.WAITS,
        "`acquire` without a timeout waits without limit. The operating system refuses such times, and the error comes "
        "when a lock is contended for the first time.",
        "contract.md#waiting-to-be-notified",
    ),
    "space": Subject(
        "Room",
        Loss.SPACE,
        "A store runs for years. Some bytes for each request that is over fill a disk or a process in weeks.",
        "contract.md#other-rules",
    ),
    "sections": Subject(
        "Sections",
        Loss.UPDATES,
        "A sharded store cannot change two sections at once. One that does not refuse it leaves half a transaction "
        "when a server fails.",
        "contract.md#sharded-stores",
    ),
    "capabilities": Subject(
        "Declared capabilities",
        Loss.DECLARED,
        "redicts decides by the capabilities how to lock and to store. A wrong one fails where it is needed first.",
        "contract.md#other-rules",
    ),
    "undeclared": Subject(
        "Undeclared capabilities",
        Loss.DECLARED,
        "A TTL that a store ignores is a lock or a session without end. An error says so at once.",
        "contract.md#other-rules",
    ),
}
"""The subject of each module of checks of backends, by its name."""

CODEC_SUBJECTS: Final[dict[str, Subject]] = {
    "values": Subject(
        "Codecs: values",
        Loss.VALUES,
        "A stored value must come back. A codec that returns a similar one changes data, at the second write at last.",
        "write-a-codec.md",
    ),
    "conduct": Subject(
        "Codecs: conduct",
        Loss.VALUES,
        "Values are shared with the program that stores them. A codec that changes or keeps one changes another value.",
        "write-a-codec.md",
    ),
    "documents": Subject(
        "Codecs: documents",
        Loss.VALUES,
        "A dict that is stored as one text is read leaf by leaf later. Both must be the same.",
        "contract.md#documents",
    ),
    "damage": Subject(
        "Codecs: corrupt data",
        Loss.ERRORS,
        "Anyone with access to the store chooses the bytes that a program decodes. They must run nothing, and must "
        "not end the program with an error that it does not expect.",
        "write-a-codec.md",
    ),
    "capabilities": Subject(
        "Codecs: declared capabilities",
        Loss.DECLARED,
        "redicts compares bytes and binds them to paths only if the codec declares that this works.",
        "write-a-codec.md",
    ),
}
"""The subject of each module of checks of codecs, by its name."""

_UNKNOWN: Final = Subject("Other rules", Loss.DECLARED, "", "contract.md#other-rules")


def subject_of(check: str, subjects: dict[str, Subject]) -> Subject:
    """Return the subject of a check by its name, ``subject.rule``."""
    return subjects.get(check.partition(".")[0], _UNKNOWN)
