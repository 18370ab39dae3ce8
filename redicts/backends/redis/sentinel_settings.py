"""The addresses of Sentinels in settings and URLs, and what may not be given with them."""

from __future__ import annotations

import re
from typing import Any, Final

_DEFAULT_PORT: Final = 26379
_NAME: Final = r"[\w.~-]+|\[[0-9A-Fa-f:.]+(%[\w.~-]+)?\]"
_OF_SENTINELS: Final = (
    *("service", "sentinel_username", "sentinel_password", "sentinel_tls", "sentinel_tls_ca_file"),
    *("sentinel_tls_cert_file", "sentinel_tls_key_file", "sentinel_timeout_secs"),
)


def addresses(given: Any) -> Any:
    """Return addresses as ``host:port``, given as such texts, without a port, or as pairs of a host and a port."""
    if not isinstance(given, (list, tuple)):
        raise ValueError('sentinels must be a list of addresses such as ["host:26379"]')
    return tuple([_address(each) for each in given])


def _address(given: Any) -> str:
    if isinstance(given, (list, tuple)) and len(given) == 2:
        host, port = map(str, given)
        given = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    found = (
        re.fullmatch(rf"(?P<host>{_NAME})(:(?P<port>[0-9]{{1,5}}))?", given, re.ASCII)
        if isinstance(given, str)
        else None
    )
    number = _DEFAULT_PORT if found is None or found["port"] is None else int(found["port"])
    if found is None or not 1 <= number <= 65535:
        raise ValueError("each of the sentinels must be text such as host:26379, or a pair of a host and a port")
    return f"{found['host']}:{number}"


def split_hosts(url: str) -> tuple[list[str], str]:
    """Return the addresses in a URL that names several, and the same URL with the first one only."""
    scheme, _, rest = url.partition("://")
    authority = re.split(r"[/?#]", rest, maxsplit=1)[0]
    user, at, servers = authority.rpartition("@")
    hosts = servers.split(",")
    return hosts, f"{scheme}://{user}{at}{hosts[0]}{rest[len(authority) :]}"


def refuse_contradictions(settings: Any) -> None:
    """Raise ``ValueError`` unless the settings have Sentinels and all that they need, or nothing of that."""
    given = settings.model_fields_set
    if not settings.sentinels:
        needless = [name for name in _OF_SENTINELS if getattr(settings, name) is not None and name in given]
        if needless:
            raise ValueError(f"{', '.join(needless)} given without sentinels; give their addresses, or leave it out")
        return
    if given & {"host", "port", "unix_socket"}:
        raise ValueError("sentinels exclude host, port and unix_socket; the Sentinels tell the address of the server")
    if settings.service is None:
        raise ValueError("sentinels need the name of the service that they watch; give service, often mymaster")
    files = [name for name in _OF_SENTINELS if "_file" in name and getattr(settings, name) is not None]
    if files and not (settings.tls if settings.sentinel_tls is None else settings.sentinel_tls):
        raise ValueError(f"{', '.join(files)} given without TLS; set sentinel_tls, or leave it out")
    if settings.sentinel_tls_key_file is not None and settings.sentinel_tls_cert_file is None:
        raise ValueError("sentinel_tls_key_file belongs to a certificate; give sentinel_tls_cert_file too")
