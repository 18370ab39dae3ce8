"""URLs and combinations of settings that can be meant in two ways, or in none, are refused whole and never repeated."""

from __future__ import annotations

import math
from typing import Any, Final

import pytest

from redicts import Pool, WrongField
from tests.config.test_redaction import all_of

REFUSED: Final = {
    # A password with characters that end a part of a URL. The password is 12...3.
    "redis://:12#3@host/0": "%23 for #",
    "redis://:12?3@host/0": "%3F for ?",
    "redis://:12?x=3@host/0": "%3F for ?",
    "redis://:12/3@host/0": "%2F for /",
    "redis://:12[3@host/0": "%5B for [",
    "redis://:12]3@host/0": "%5D for ]",
    "redis://:[123]@host/0": "%5B for [",
    "redis://:12@3@host/0": "%40 for @",
    "redis://:12%3@host/0": "%25",
    "redis://:12%zz3@host/0": "%25",
    "redis://:12%ff3@host/0": "UTF-8",
    "redis://:12 3@host/0": "blanks",
    "redis://:12\n3@host/0": "control characters",
    "redis://:12\t3@host/0": "control characters",
    "redis://:12\\3@host/0": "backslashes",
    " redis://host/0": "must be a URL",
    "redis://host/0 ": "blanks",
    # No server, or more than one
    "redis://": "name one host",
    "redis:///0": "name one host",
    "redis://:6379/0": "name one host",
    "redis://:password@/0": "name one host",
    "redis://one,two/0": "name one host",
    "redis://one:1,two:2/0": "host or port",
    "redis://::1/0": "host or port",
    "redis://[::g]/0": "host or port",
    "redis://[host]/0": "host or port",
    "redis://ho%20st/0": "name one host",
    # Ports
    "redis://host:/0": "host or port",
    "redis://host:0/0": "port",
    "redis://host:65536/0": "port",
    "redis://host:99999999999999/0": "port",
    "redis://host:-1/0": "port",
    "redis://host:+1/0": "port",
    "redis://host:\uff16/0": "port",
    # Databases
    "redis://host/main": "by its number",
    "redis://host/1/2": "by its number",
    "redis://host//1": "by its number",
    "redis://host/\uff13": "by its number",
    "redis://host/-1": "by its number",
    "redis://host/3?database=5": "in its path and as a parameter",
    "redis://host/3?database=3": "in its path and as a parameter",
    "redis://host?database=x": "must be a number",
    "redis://host?database=": "must be a number",
    # Parameters
    "redis://host/0?database": "name=value",
    "redis://host/0?x=1": "'x'",
    "redis://host/0?prefx=a": "'prefx'",
    "redis://host/0?prefix=a&prefix=b": "twice",
    "redis://host?database=1&database=1": "twice",
    "redis://host/0?prefix=a+b": "%2B",
    "redis://host/0?prefix=a#b": "%23",
    "redis://host/0?prefix=a@b": "%40",
    "redis://host/0#x": "%23",
    "redis://host/0?password=x": "'password'",
    "redis://host/0?host=other": "'host'",
    "redis://host/0?tls=true": "'tls'",
    "redis://host/0?retries=many": "retries",
    "redis://host/0?socket_timeout_secs=inf": "socket_timeout_secs",
    "redis://host/0?tls_ca_file=/ca.pem": "without TLS",
    # Sockets
    "unix://run/r.sock": "three slashes",
    "unix://host:1/r.sock": "three slashes",
    "unix://": "three slashes",
    "unix:///": "three slashes",
    "unix:///r.sock#x": "%23",
    "unix:///r%00.sock": "NUL",
    "unix:///r%zz.sock": "%25",
    "unix:///r.sock?host=x": "'host'",
    "unix:///r.sock?database=1&database=2": "twice",
    # SQLite
    "sqlite:///a.db?path=b.db": "'path'",
    "sqlite:///a.db?busy_timeout_secs=1&busy_timeout_secs=2": "twice",
    "sqlite:///a.db?busy_timeout_secs": "name=value",
    "sqlite:///a.db?busy_timeout_secs=nan": "busy_timeout_secs",
    "sqlite:///a.db?size=1": "'size'",
    "sqlite:///100%.db": "%25",
    "sqlite:///a%ff.db": "UTF-8",
    "sqlite://host/a.db": "three slashes",
    # Others
    "memory://?x=1": "nothing more",
    "anna:123@redis://host/0": "must be a URL",
}
"""URLs, and what the error about each must say."""

CONTRADICTIONS: Final[tuple[tuple[dict[str, Any], str], ...]] = (
    ({"host": "h", "unix_socket": "/r.sock"}, "unix_socket excludes host and port"),
    ({"port": 1, "unix_socket": "/r.sock"}, "unix_socket excludes host and port"),
    ({"url": "redis://h/0", "unix_socket": "/r.sock"}, "unix_socket excludes host and port"),
    ({"url": "unix:///r.sock", "host": "h"}, "unix_socket excludes host and port"),
    ({"url": "unix:///r.sock", "unix_socket": "/r.sock"}, "unix_socket given both"),
    ({"url": "redis://h/1", "default_database": 2}, "default_database given both"),
    ({"url": "redis://h/1?prefix=a", "prefix": "b"}, "prefix given both"),
    ({"url": "rediss://h/1", "tls": False}, "tls given both"),
    ({"unix_socket": "/r.sock", "tls": True}, "never encrypted"),
    ({"tls_ca_file": "/ca.pem"}, "tls_ca_file given without TLS"),
    ({"tls_ca_file": "/ca.pem", "tls": False}, "tls_ca_file given without TLS"),
    ({"url": "redis://h/0", "tls_cert_file": "/c.pem", "tls_key_file": "/k.pem"}, "tls_cert_file, tls_key_file given"),
    ({"tls_check_hostname": False}, "tls_check_hostname given without TLS"),
    ({"tls": True, "tls_key_file": "/k.pem"}, "give tls_cert_file too"),
    ({"host": ""}, "host"),
    ({"host": "a b"}, "host"),
    ({"host": "redis://h"}, "host"),
    ({"host": "db:6380"}, "host"),
    ({"host": "one,two"}, "host"),
    ({"host": "[::1]"}, "host"),
    ({"unix_socket": "unix:///r.sock"}, "a path, not a URL"),
    ({"backend": "sqlite", "path": "sqlite:///s.db"}, "a path, not a URL"),
    ({"unix_socket": ""}, "unix_socket"),
    ({"tls": True, "tls_ca_file": ""}, "tls_ca_file"),
    ({"max_connections": 10**9}, "max_connections"),
    *[
        ({name: value}, name)
        for name in ("timeout_secs", "connect_timeout_secs", "socket_timeout_secs")
        for value in (math.inf, math.nan, 1e12, -math.inf, 0, "inf")
    ],
    *[
        ({"backend": "sqlite", "path": "a", "busy_timeout_secs": value}, "busy_timeout_secs")
        for value in (math.inf, math.nan, 1e12, "inf")
    ],
    *[({"backend": "memory", "lock_retention": value}, "lock_retention") for value in (math.inf, math.nan, 1e12)],
    ({"backend": "redis://anna:123@host/0"}, "give a URL as the whole configuration"),
    ({"backend": {"name": "redis://anna:123@host/0"}}, "give a URL as the whole configuration"),
    ({"backend": "localhost:123"}, "must be a name"),
    ({"backend": "memory", "codec": "json:123"}, "must be a name"),
)
"""Settings that contradict each other or cannot be meant, and what the error must say."""


def refused(cfg: Any, monkeypatch: pytest.MonkeyPatch, source: str = "program") -> WrongField:
    """Return the error of a configuration, which must be refused without changing the settings."""
    before = Pool().settings
    if source == "environment":
        monkeypatch.setenv("REDICTS_URL", cfg)
        cfg = None
    with pytest.raises(ValueError) as caught:  # noqa: PT011  (the caller looks at the text)
        Pool().reload(cfg=cfg)
    assert Pool().settings is before
    return caught.value  # type: ignore[return-value]


@pytest.mark.parametrize("url", REFUSED)
@pytest.mark.parametrize("source", ["program", "environment"])
def test_a_url_that_cannot_be_meant_is_refused(url: str, source: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A URL that can be read in two ways or in none is refused with a remedy, and no part of a password is shown."""
    error = refused(url, monkeypatch, source)
    assert REFUSED[url] in str(error)
    for part in ("123", "12", ":12"):
        assert part not in "".join(all_of(error)).replace("NUL", "")


@pytest.mark.parametrize(("cfg", "says"), CONTRADICTIONS, ids=str)
def test_settings_that_contradict_each_other_are_refused(
    cfg: dict[str, Any], says: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Settings of which one would be without effect, or that nobody can mean, are refused by name."""
    error = refused(cfg, monkeypatch)
    assert says in str(error)
    assert "123" not in "".join(all_of(error))


@pytest.mark.parametrize(
    ("url", "expected", "database"),
    [
        ("redis://:1%232%3F%2F%5B%40%25%3A@host/0", {"password": "1#2?/[@%:", "host": "host"}, 0),
        ("redis://anna:a:b@host", {"username": "anna", "password": "a:b"}, 0),
        ("redis://a%40b@host/", {"username": "a@b", "password": None}, 0),
        ("redis://[::1]:7000/2", {"host": "::1", "port": 7000}, 2),
        ("redis://[fe80::1%25eth0]/2", {"host": "fe80::1%eth0"}, 2),
        ("redis://my_host.example-1/2/", {"host": "my_host.example-1"}, 2),
        ("redis://host?database=4", {"host": "host"}, 4),
        ("redis://host/4?prefix=app%3A%20%2B%40", {"prefix": "app: +@"}, 4),
        ("redis://host/4?prefix=app:&retries=0&socket_timeout_secs=2.5", {"prefix": "app:", "retries": 0}, 4),
        ("rediss://host/0?tls_ca_file=/a%20b.pem", {"tls": True, "tls_ca_file": "/a b.pem"}, 0),
        ("unix:///run/r%20s%3F.sock?database=3&prefix=x", {"unix_socket": "/run/r s?.sock", "prefix": "x"}, 3),
        ("unix:///run/user@1000/r.sock", {"unix_socket": "/run/user@1000/r.sock"}, 0),
        ("unix://anna:pass@/run/r.sock", {"unix_socket": "/run/r.sock", "username": "anna", "password": "pass"}, 0),
        ("sqlite:////srv/a#b%23%3F%20+.db?busy_timeout_secs=2", {"path": "/srv/a#b#? +.db", "busy_timeout_secs": 2}, 0),
    ],
)
def test_a_url_with_escapes_is_decoded(url: str, expected: dict[str, Any], database: int) -> None:
    """Every part of a URL may have escapes, and parameters set other fields, a prefix for instance."""
    Pool().reload(cfg=url)
    options: Any = Pool().settings.options
    found = {name: getattr(options, name) for name in expected}
    if found.get("password") is not None:
        found["password"] = found["password"].get_secret_value()
    assert found == expected
    assert Pool().settings.default == database


@pytest.mark.parametrize("host", ["localhost", "db_1.example", "127.0.0.1", "::1", "fe80::1%eth0", "::ffff:1.2.3.4"])
def test_names_and_addresses_are_hosts(host: str) -> None:
    """A host is a name, or an address of either version."""
    Pool().reload(cfg={"host": host})
    assert Pool().settings.backend == "redis"


def test_the_longest_timeouts_can_be_used(tmp_path: Any) -> None:
    """The longest timeout that the settings take raises nothing when it is used."""
    from redicts import Unreachable, root
    from tests.support.ports import free_port

    longest = {"timeout_secs": 1e6, "connect_timeout_secs": 1e6, "socket_timeout_secs": 1e6, "retries": 0}
    Pool().reload(cfg={"host": "127.0.0.1", "port": free_port(), **longest})
    with pytest.raises(Unreachable):
        root().val()
    Pool().reload(cfg={"backend": "sqlite", "path": tmp_path / "a.db", "busy_timeout_secs": 1e6})
    root().set("a", 1)
    assert root().val() == {"a": 1}
