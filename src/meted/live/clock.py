"""The house's clock: monotonic time, and wall time that never runs backwards."""

import time

from meted.domain.units import NANOS_PER_MICRO, Micros


class Clock:
    """Monotonic micros for durations and order; wall micros are the start plus what has passed.

    Steps of the system's wall clock (NTP, a user) therefore do not touch the books of a session.
    """

    def __init__(self) -> None:
        self._origin = time.time_ns() // NANOS_PER_MICRO - self.now()

    def now(self) -> Micros:
        """Monotonic micros, shared by all processes of this machine."""
        return Micros(time.monotonic_ns() // NANOS_PER_MICRO)

    def wall(self, at: Micros | None = None) -> Micros:
        """Micros since 1970 of a monotonic moment, now by default."""
        return Micros(self._origin + (self.now() if at is None else at))
