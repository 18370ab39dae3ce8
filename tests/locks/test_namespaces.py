"""The PID namespace in the label of a lock owner."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys

import pytest

from redicts.locks.namespaces import pid_namespace

PROGRAM = "from redicts.locks.namespaces import pid_namespace; print(pid_namespace())"


def test_processes_that_see_the_same_ids_have_the_same_text() -> None:
    """A child of this process has the text of this one."""
    child = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True)
    assert child.stdout.strip() == pid_namespace()
    if os.path.exists("/proc/self/ns/pid"):
        assert len(pid_namespace()) == 12


def test_another_namespace_has_another_text() -> None:
    """A container has it, where this user may make one."""
    unshare = [shutil.which("unshare") or "unshare", "--pid", "--fork", "--mount-proc"]
    try:
        child = subprocess.run([*unshare, sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return  # no other namespace can be made here
    assert child.stdout.strip() != pid_namespace()


def test_a_system_without_namespaces_has_none(monkeypatch: pytest.MonkeyPatch) -> None:
    """There nothing can be proven about a process id."""
    monkeypatch.setattr("redicts.locks.namespaces._BOOT", "/nowhere")
    assert pid_namespace() == ""
