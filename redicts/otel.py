"""Spans and metrics of OpenTelemetry for each operation, by its conventions for databases. Needs the extra ``otel``.

Built on :func:`redicts.observe`. It needs the API of OpenTelemetry only: the application sets up SDK and exporters.
"""

from __future__ import annotations

from typing import Any, Final, Literal, NamedTuple
from weakref import ref

from redicts.core.observing import Observation, Observing, observe
from redicts.version import __version__

try:
    from opentelemetry.metrics import MeterProvider, get_meter
    from opentelemetry.trace import SpanKind, Status, StatusCode, TracerProvider, get_current_span, get_tracer
except ImportError as error:  # pragma: no cover  (the tests install it)
    raise ImportError(
        "redicts.otel needs the API of OpenTelemetry; install it with: pip install 'redicts[otel]'"
    ) from error

SYSTEMS: Final = {"fakeredis": "redis", "postgres": "postgresql"}
"""The names that the conventions give to the systems of backends that have another name here."""

_SECS: Final = (0.0001, 0.0005, 0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 10.0)
"""Bounds of the buckets of operations: those of the conventions, and shorter ones for stores without a network."""

_LOCK_SECS: Final = (0.001, 0.01, 0.1, 1.0, 5.0, 10.0, 30.0, 60.0, 300.0, 1800.0)

_SCHEMA: Final = "https://opentelemetry.io/schemas/1.33.0"


def instrument(
    *,
    tracer_provider: TracerProvider | None = None,
    meter_provider: MeterProvider | None = None,
    spans: Literal["in traces", "all", "none"] = "in traces",
    paths: bool = True,
) -> Observing:
    """Export spans and metrics of every operation of this process, until the result is closed.

    The providers are by default the global ones, which the application sets. By default, an operation has a span if a
    span of the application that is recorded is current, such as that of a request. With ``spans="all"`` each operation
    has one, and with ``"none"`` there are metrics only. Without ``paths`` no span has the path, for applications whose
    paths contain personal data. Values are never part of a span or a metric.

    A span is named after the operation and the database: ``set 0``. It has the attributes ``db.system.name``,
    ``db.operation.name``, ``db.namespace``, ``server.address``, ``server.port``, ``error.type``, ``redicts.path``,
    ``redicts.round_trips`` and ``redicts.retries``.

    The metrics are ``db.client.operation.duration``, ``redicts.lock.wait.duration``, ``redicts.lock.hold.duration``
    (histograms in seconds), and ``redicts.client.retries`` (a counter). They have no paths.
    """
    return observe(_Exporter(tracer_provider, meter_provider, spans=spans, paths=paths))


class _Exporter:
    """The observer: makes a span and records metrics when an operation has ended."""

    def __init__(
        self, tracer_provider: TracerProvider | None, meter_provider: MeterProvider | None, *, spans: str, paths: bool
    ) -> None:
        self._paths = paths
        self._in_traces = spans != "all"
        self._tracer = None if spans == "none" else get_tracer("redicts", __version__, tracer_provider, _SCHEMA)
        meter = get_meter("redicts", __version__, meter_provider, _SCHEMA)
        self._durations = meter.create_histogram(
            "db.client.operation.duration",
            "s",
            "Duration of database client operations.",
            explicit_bucket_boundaries_advisory=_SECS,
        )
        self._waits = meter.create_histogram(
            "redicts.lock.wait.duration",
            "s",
            "Time from the request for a lock until it was granted, or was not.",
            explicit_bucket_boundaries_advisory=_LOCK_SECS,
        )
        self._holds = meter.create_histogram(
            "redicts.lock.hold.duration",
            "s",
            "Time from the grant of a lock until its release.",
            explicit_bucket_boundaries_advisory=_LOCK_SECS,
        )
        self._retries = meter.create_counter(
            "redicts.client.retries", "{request}", "Requests that were sent again because no answer came."
        )
        self._known: dict[tuple[int, str, str], _Known] = {}
        self._record = self._durations.record

    def __call__(self, seen: Observation) -> None:
        """Export one operation."""
        opened, kind = seen.opened, seen.kind
        key = (id(opened), kind, seen.outcome)
        known = self._known.get(key)
        if known is None or known.opened() is not opened:
            if len(self._known) > _MOST_KNOWN:
                self._known.clear()
            known = self._known[key] = _known_of(seen)
        attributes = known.attributes
        self._record(seen.seconds, attributes)
        if kind == "acquire":
            self._waits.record(seen.seconds, attributes)
        if seen.held is not None:
            self._holds.record(seen.held, attributes)
        if seen.retries:
            self._retries.add(seen.retries, attributes)
        if self._tracer is None or (self._in_traces and not get_current_span().is_recording()):
            return
        began = int(seen.began * 1e9)
        of_span = {**attributes, "redicts.round_trips": seen.round_trips}
        if self._paths:
            of_span["redicts.path"] = seen.path
        if seen.retries:
            of_span["redicts.retries"] = seen.retries
        span = self._tracer.start_span(known.name, kind=SpanKind.CLIENT, attributes=of_span, start_time=began)
        if seen.error is not None:
            span.set_status(Status(StatusCode.ERROR, str(seen.error)))
        span.end(began + int(seen.seconds * 1e9))


_MOST_KNOWN: Final = 1_000


class _Known(NamedTuple):
    """The name of a span, and the attributes that all operations of its kind on its database have."""

    name: str
    attributes: dict[str, Any]
    opened: ref[Any]
    """The backend: another one may get its id."""


def _known_of(seen: Observation) -> _Known:
    attributes: dict[str, Any] = {
        "db.system.name": SYSTEMS.get(seen.backend, seen.backend),
        "db.operation.name": seen.kind,
    }
    if seen.error is not None:
        attributes["error.type"] = type(seen.error).__qualname__
    name, address = seen.kind, seen.opened.address
    if "db" in address:
        attributes["db.namespace"] = str(address["db"])
        name = f"{seen.kind} {address['db']}"
    if "host" in address:
        attributes["server.address"] = str(address["host"])
        if "port" in address:
            attributes["server.port"] = int(address["port"])
    elif "path" in address:
        attributes["server.address"] = str(address["path"])
    return _Known(name, attributes, ref(seen.opened))
