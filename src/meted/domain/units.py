"""Exact units. Money, time and tokens are integers everywhere inside Meted."""

from typing import NewType

Micros = NewType("Micros", int)
"""Microseconds of wall time, or a moment on a clock in microseconds."""

DeviceNanos = NewType("DeviceNanos", int)
"""Nanoseconds for which one device was used (a device-second is 1e9 of them)."""

NanoUSD = NewType("NanoUSD", int)
"""Billionths of a US dollar."""

Tokens = NewType("Tokens", int)
Bytes = NewType("Bytes", int)

DeploymentName = NewType("DeploymentName", str)
ReplicaId = NewType("ReplicaId", str)
JobName = NewType("JobName", str)
RequestId = NewType("RequestId", str)
TenantName = NewType("TenantName", str)
ProjectName = NewType("ProjectName", str)
KeyId = NewType("KeyId", str)
BudgetName = NewType("BudgetName", str)
TransferId = NewType("TransferId", str)
"""Idempotency key of a transfer: a request's id, or a job's name with the number of its part."""

MICROS_PER_SECOND = 1_000_000
NANOS_PER_SECOND = 1_000_000_000
NANOS_PER_MICRO = 1_000
SECONDS_PER_HOUR = 3_600
