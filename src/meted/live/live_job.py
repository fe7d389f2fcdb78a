"""One job in the live house: its spec, its process if it has one, its pace and its accounts."""

from dataclasses import dataclass, replace

from meted.domain.allocation import Harvest
from meted.domain.job import JobProgress, JobSpec
from meted.domain.line import Account, Kind
from meted.domain.units import DeviceNanos, NanoUSD
from meted.ledger.meter import UNCHECKPOINTED
from meted.ledger.recovery import lost
from meted.live.host import Worker
from meted.live.wire import Trained


@dataclass(frozen=True, slots=True, kw_only=True)
class JobTotals:
    """A job's device time, its cost and what was charged in all sessions before this one."""

    device_nanos: DeviceNanos = DeviceNanos(0)
    cost: NanoUSD = NanoUSD(0)
    price: NanoUSD = NanoUSD(0)


class LiveJob:
    """One job with, perhaps, a trainer's process."""

    def __init__(self, spec: JobSpec, progress: JobProgress, before: JobTotals) -> None:
        self.spec = spec
        self.progress = progress
        self.before = before
        self.worker: Worker | None = None
        self.worker_id = ""
        self.harvest = Harvest.NONE
        self.answering = False
        self.failure: str | None = None
        self.ended_well = False
        self.tokens_per_second = 0.0
        self.nanos_per_step = 0.0
        self.nanos_per_token = 0.0
        self._last_cpu: tuple[int, int] | None = None
        account = Account(
            kind=Kind.TRAINING,
            tenant=spec.tenant,
            project=spec.project,
            key=spec.key or None,
            model=spec.base,
            job=spec.name,
        )
        self.durable = account
        self.pending = replace(account, note=UNCHECKPOINTED)
        self.loading = replace(account, kind=Kind.LOADING)

    def accounts(self) -> tuple[Account, ...]:
        """All accounts on which this job's time stands."""
        return (self.durable, self.pending, self.loading, lost(self.pending))

    def trained(self, message: Trained) -> None:
        """Follow its pace: device time by step and by token, tokens by second of wall time."""
        if message.duration_us > 0 and self.progress.tokens:
            rate = max(0, message.tokens - self.progress.tokens) * 1e6 / message.duration_us
            self.tokens_per_second += 0.2 * (rate - self.tokens_per_second)
        if self._last_cpu is not None:
            used = message.cpu_ns - self._last_cpu[0]
            tokens = message.tokens - self._last_cpu[1]
            weight = 0.2 if self.nanos_per_step else 1.0
            self.nanos_per_step += weight * (used - self.nanos_per_step)
            if tokens > 0:
                self.nanos_per_token += weight * (used / tokens - self.nanos_per_token)
        self._last_cpu = (message.cpu_ns, message.tokens)

    def process_ended(self) -> None:
        """The trainer's process is gone."""
        self.worker = None
        self._last_cpu = None
        self.answering = False
