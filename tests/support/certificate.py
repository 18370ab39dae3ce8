"""A self-signed certificate for a server on the loopback interface, made by the ``openssl`` command."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from typing import NamedTuple

from .ports import LOOPBACK


class Certificate(NamedTuple):
    """Two PEM files; the certificate is also the authority that clients trust."""

    certificate: Path
    key: Path


def make_certificate(directory: Path) -> Certificate:
    """Make a key and a certificate for localhost, valid for two days.

    Raises :class:`FileNotFoundError` if there is no ``openssl`` command.
    """
    openssl = shutil.which("openssl")
    if openssl is None:
        raise FileNotFoundError("a server with TLS needs the openssl command: install openssl")
    made = Certificate(directory / "certificate.pem", directory / "key.pem")
    command = [openssl, "req", "-x509", "-nodes", "-days", "2", "-subj", "/CN=localhost"]
    command += ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1"]
    command += ["-addext", f"subjectAltName=IP:{LOOPBACK},DNS:localhost"]
    command += ["-keyout", str(made.key), "-out", str(made.certificate)]
    subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, check=True)
    return made
