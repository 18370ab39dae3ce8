"""``redicts.otel`` exports spans and metrics by OpenTelemetry's conventions for databases, and no values."""

from __future__ import annotations

import asyncio
import gc
import json
import re
from collections.abc import Iterator
from typing import Any, Final

import pytest
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode

import redicts
import redicts.aio
from redicts import otel
from tests.pages.parsing import DOCS
from tests.support.servers import RedisServer

SECRET: Final = "the value that nobody may see"


class Exported:
    """What was exported to memory."""

    def __init__(self) -> None:
        self._spans = InMemorySpanExporter()
        self._metrics = InMemoryMetricReader()
        self.tracers = TracerProvider()
        self.tracers.add_span_processor(SimpleSpanProcessor(self._spans))
        self.meters = MeterProvider(metric_readers=[self._metrics])

    @property
    def spans(self) -> list[ReadableSpan]:
        """The spans that have ended, without those of the test."""
        return [span for span in self._spans.get_finished_spans() if span.name != "request"]

    def points(self, name: str) -> list[Any]:
        """Return the data points of a metric."""
        data: Any = self._metrics.get_metrics_data()
        if data is None:
            return []
        metrics = [
            metric for resource in data.resource_metrics for scope in resource.scope_metrics for metric in scope.metrics
        ]
        return [point for metric in metrics if metric.name == name for point in metric.data.data_points]


@pytest.fixture
def exported() -> Iterator[Exported]:
    """Export to memory during the test, with a span for each operation."""
    found = Exported()
    with otel.instrument(tracer_provider=found.tracers, meter_provider=found.meters, spans="all"):
        yield found


def test_an_operation_is_a_span(exported: Exported, server: RedisServer) -> None:
    """Its name, kind and attributes are those of the conventions; a failure has its type."""
    with redicts.open(f"redis://{server.host}:{server.port}/0") as db:
        db.root().set("garage.car", SECRET)
        with pytest.raises(redicts.LeafError):
            db.proxy("garage.car").add(1)
    done, failed = exported.spans
    assert (done.name, done.kind, done.status.status_code) == ("set 0", SpanKind.CLIENT, StatusCode.UNSET)
    assert dict(done.attributes or {}) == {
        "db.system.name": "redis",
        "db.operation.name": "set",
        "db.namespace": "0",
        "server.address": server.host,
        "server.port": server.port,
        "redicts.path": "garage.car",
        "redicts.round_trips": 1,
    }
    assert (failed.name, failed.status.status_code) == ("add 0", StatusCode.ERROR)
    assert (failed.attributes or {})["error.type"] == "LeafError"
    assert (done.end_time or 0) >= (done.start_time or 0) > 0
    assert SECRET not in "".join(span.to_json() for span in exported.spans)


def test_tasks_and_caches_have_the_address_of_their_store(exported: Exported, server: RedisServer) -> None:
    """What a loop, a thread of a loop and a cache do is exported with the server and the database, as all else is."""
    at = {"server.address": server.host, "server.port": server.port, "db.namespace": "3", "db.system.name": "redis"}
    url = f"redis://{server.host}:{server.port}/3"

    async def asked() -> None:
        async with redicts.aio.open(url) as db:
            await db.proxy("a.b").val()

    asyncio.run(asked())
    with redicts.open({"backend": {"name": "redis", "url": url}, "cache": True}) as cached:
        cached.proxy("a.b").val()
    for span in exported.spans:
        assert at.items() <= dict(span.attributes or {}).items()
    assert {span.name for span in exported.spans} >= {"val 3"}


def test_another_store_at_the_same_place_in_memory_has_its_own_address(exported: Exported, server: RedisServer) -> None:
    """Attributes that are kept for the backend that is gone are not those of one that got its id."""
    seen = []
    for number in range(3):
        with redicts.open(f"redis://{server.host}:{server.port}/{number}") as db:
            db.root().set("a", 1)
            seen.append(id(db.backend))
        del db
        gc.collect()
    assert [span.name for span in exported.spans] == ["set 0", "set 1", "set 2"]


def test_durations_are_histograms(exported: Exported) -> None:
    """Operations, waits for locks and their holding times are counted by kind, without paths."""
    with redicts.open("memory://") as db:
        for number in range(3):
            db.root().set(f"a.n{number}", 1)
        with db.lock("a"):
            db.root().val()
    operations = {
        point.attributes["db.operation.name"]: point for point in exported.points("db.client.operation.duration")
    }
    assert operations["set"].count == 3
    assert operations["set"].sum > 0
    assert dict(operations["set"].attributes) == {"db.system.name": "memory", "db.operation.name": "set"}
    assert [point.count for point in exported.points("redicts.lock.wait.duration")] == [1]
    (held,) = exported.points("redicts.lock.hold.duration")
    assert (held.count, held.sum > 0) == (1, True)
    assert exported.points("redicts.client.retries") == []


def test_spans_join_the_trace_of_the_application() -> None:
    """By default there is a span only in a span of the application, of which it is a child; metrics count all."""
    exported = Exported()
    with (
        otel.instrument(tracer_provider=exported.tracers, meter_provider=exported.meters, paths=False),
        redicts.open("memory://") as db,
    ):
        db.root().set("a", 1)
        with exported.tracers.get_tracer("test").start_as_current_span("request") as request:
            db.root().val()
        db.root().val()
    (span,) = exported.spans
    assert span.parent is not None
    assert span.parent.span_id == request.get_span_context().span_id
    assert "redicts.path" not in (span.attributes or {})
    assert sum(point.count for point in exported.points("db.client.operation.duration")) == 3


def test_without_spans_there_are_metrics(exported: Exported) -> None:
    """And after the instrumentation is closed, there is neither."""
    other = Exported()
    with (
        otel.instrument(tracer_provider=other.tracers, meter_provider=other.meters, spans="none"),
        redicts.open("memory://") as db,
    ):
        db.root().set("a", 1)
    with redicts.open("memory://") as db:
        db.root().set("a", 1)
    assert other.spans == []
    assert [point.count for point in other.points("db.client.operation.duration")] == [1]
    assert len(exported.spans) == 2


def test_the_dashboard_shows_the_exported_metrics(exported: Exported) -> None:
    """Each query names a metric as the exporter for Prometheus does, and attributes that it has."""
    with redicts.open("memory://") as db, db.lock("a"):
        pass
    names = {"redicts_client_retries_total"}
    for name in ("db.client.operation.duration", "redicts.lock.wait.duration", "redicts.lock.hold.duration"):
        assert exported.points(name), name
        names.add(f"{name.replace('.', '_')}_seconds")
    dashboard = json.loads((DOCS / "dashboards" / "redicts.json").read_text(encoding="utf-8"))
    queries = [target["expr"] for panel in dashboard["panels"] for target in panel["targets"]]
    shown = [re.findall(r"\b(\w+?)(?:_count|_bucket)?\{", query) for query in queries]
    assert {name for found in shown for name in found} == names
    attributes = {"db_system_name", "db_operation_name", "error_type", "job", "le"}
    assert set(re.findall(r"(\w+)(?:!?=~?\")", "".join(queries))) <= attributes
