"""Observers, logs of retries, and OpenTelemetry."""
