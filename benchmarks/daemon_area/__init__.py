"""The daemon: its round trips, bulk transport, encodes, memory, many clients and long runs."""

from __future__ import annotations

from ..entries import Measurement

MEASUREMENTS = (
    Measurement("supervisor", "supervisor"),
    Measurement("control round trip", "control", "measure_round_trip"),
    Measurement("repeated prompt", "control", "measure_cache_hit"),
    Measurement("bulk transport", "bulk"),
    Measurement("encode", "encode"),
    Measurement("encodes at once", "contention", "measure_together"),
    Measurement("flood", "contention", "measure_flood"),
    Measurement("many clients", "clients"),
    Measurement("long run", "endurance"),
    Measurement("memory of three workflows", "memory", draws=True),
    Measurement("memory of two workers", "replicas"),
)
