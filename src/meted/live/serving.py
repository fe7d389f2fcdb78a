"""The hot path: requests wait, are routed to replicas, metered step by step, and answered."""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import replace

from meted.domain.arms import public_name
from meted.domain.deployment import Deployment
from meted.domain.line import Account, Kind
from meted.domain.request import EmbeddingPrompt, EngineRequest, FinishReason, Outcome
from meted.domain.units import (
    DeploymentName,
    DeviceNanos,
    Micros,
    ReplicaId,
    RequestId,
    TenantName,
    Tokens,
)
from meted.ledger.attribution import split_step
from meted.ledger.meter import IN_PROGRESS
from meted.ledger.recovery import lost
from meted.live.arms import Arms, NoArms
from meted.live.clock import Clock
from meted.live.doors import (
    Begun,
    Delta,
    Ended,
    Finish,
    HouseError,
    Submission,
    Usage,
    Vectors,
)
from meted.live.funding import Funding
from meted.live.host import Worker, WorkerEnd
from meted.live.metering import Metering
from meted.live.refusals import unknown_model
from meted.live.request_ends import finish_of, row_of
from meted.live.served import ServedDeployment, ServedReplica
from meted.live.store import RequestRow
from meted.live.tickets import LiveRequest, LiveTicket
from meted.live.waiting import Funded
from meted.live.wire import Admitted, Cancel, Failed, Output, Ready, Rejected, Stepped, to_add
from meted.policy.admission import admit
from meted.policy.routing import least_loaded

MOST_ATTEMPTS = 2
QUEUE_TIMEOUT_US = 120_000_000
MONEY_TIMEOUT_US = 10_000_000
"""How long a request waits for money that others have reserved and may give back."""


class Serving:
    """All deployments and all requests under way."""

    def __init__(
        self,
        *,
        clock: Clock,
        metering: Metering,
        funding: Funding,
        weight_of: Callable[[TenantName], int] = lambda tenant: 1,
        on_ready: Callable[[ReplicaId], None],
        on_drained: Callable[[ReplicaId], None],
        on_traffic: Callable[[bool], None],
    ) -> None:
        self._clock = clock
        self._metering = metering
        self._funding = funding
        self._weight_of = weight_of
        self._money_came = False
        self._on_ready = on_ready
        self._on_drained = on_drained
        self._on_traffic = on_traffic
        self._in_flight = 0
        self._finishes: list[Finish] = []
        self.deployments: dict[DeploymentName, ServedDeployment] = {}
        self.arms: Arms = NoArms()
        self.closing = False

    @property
    def in_flight(self) -> int:
        """Requests accepted and not ended."""
        return self._in_flight

    def take_finishes(self) -> Sequence[Finish]:
        """Requests ended since the last call."""
        finishes, self._finishes = self._finishes, []
        return finishes

    # Requests.

    def submit(self, submission: Submission) -> LiveTicket:
        """Take a request in. Raises HouseError as `Doors.submit` says."""
        served = self._admit(submission)
        now = self._clock.now()
        payer = submission.payer
        account = Account(
            kind=Kind.REQUEST,
            tenant=payer.tenant,
            project=payer.project,
            key=payer.key,
            deployment=submission.deployment,
            model=served.deployment.checkpoint,
            request=submission.request_id,
        )
        request = LiveRequest(submission=submission, account=account, arrived=now)
        self._funding.prepare(request, served)
        ticket = LiveTicket(lambda: self._cancel(request))
        request.ticket = ticket
        self._in_flight += 1
        if self._in_flight == 1:
            self._on_traffic(True)
        served.watch.arrived(now)
        served.waiting.push(request)
        self._dispatch(served)
        return ticket

    def _admit(self, submission: Submission) -> ServedDeployment:
        served = self.deployments.get(submission.deployment)
        if served is None or served.closed:
            known = (public_name(n) for n, s in self.deployments.items() if not s.closed)
            raise unknown_model(public_name(submission.deployment), dict.fromkeys(known))
        if self.closing:
            raise HouseError(
                "the house is shutting down; try again in a moment",
                status=503,
                type="server_error",
                retry_after_s=10,
            )
        if self._metering.down is not None:
            raise HouseError(
                "the books cannot be written now, and nothing is served that could not be entered; "
                "try again in a moment",
                status=503,
                type="server_error",
                code="books_unavailable",
                retry_after_s=5,
            )
        refusal = admit(
            queued=len(served.waiting),
            limit=served.deployment.max_queue,
            seconds_per_request=served.watch.seconds_per_request,
        )
        if refusal is not None:
            raise HouseError(
                f"the queue of {public_name(submission.deployment)!r} is full: {refusal.queued} of "
                f"{refusal.limit} places taken; try again in {refusal.retry_after_s} s",
                status=503,
                type="server_error",
                code="queue_full",
                retry_after_s=refusal.retry_after_s,
            )
        return served

    def _dispatch(self, served: ServedDeployment) -> None:
        open_replicas = [r for r in served.replicas.values() if r.ready and not r.draining]
        while open_replicas and len(served.waiting):
            index = least_loaded(
                [len(replica.running) for replica in open_replicas],
                limit=served.deployment.max_batch,
            )
            if index is None:
                return
            request = served.waiting.next(lambda one: self._fund(served, one), self._clock.now())
            if request is None:
                return
            self._send(served, request, open_replicas[index])

    def _fund(self, served: ServedDeployment, request: LiveRequest) -> Funded:
        try:
            return Funded.YES if self._funding.fund(request, served) else Funded.NOT_NOW
        except HouseError as error:
            self._refuse(served, request, error)
            return Funded.REFUSED

    def _refuse(self, served: ServedDeployment, request: LiveRequest, error: HouseError) -> None:
        self._tell(request, error)
        self._end(served, request, Outcome.FAILED, None, error=error.message)

    def _send(self, served: ServedDeployment, request: LiveRequest, replica: ServedReplica) -> None:
        submission = request.submission
        request.replica = replica.id
        request.attempts += 1
        request.dispatched = self._clock.now()
        if request.attempts == 1:
            served.waiting.dispatched(request)
        replica.running[submission.request_id] = request
        replica.worker.send(
            to_add(
                EngineRequest(
                    request_id=submission.request_id,
                    prompt=submission.prompt,
                    sampling=submission.sampling,
                )
            )
        )

    def money(self) -> None:
        """Money may have come: try those that wait for it, once what happens now is through."""
        if self._money_came:
            return
        if any(served.waiting.for_money for served in self.deployments.values()):
            self._money_came = True
            asyncio.get_running_loop().call_soon(self._spend)

    def _spend(self) -> None:
        self._money_came = False
        for served in list(self.deployments.values()):
            if served.waiting.for_money:
                self._dispatch(served)

    def _cancel(self, request: LiveRequest) -> None:
        if request.ended or request.cancelled:
            return
        request.cancelled = True
        served = self.deployments[request.submission.deployment]
        replica = served.replicas.get(request.replica) if request.replica else None
        if replica is None:
            served.waiting.remove(request)
            self._end(served, request, Outcome.CANCELLED, FinishReason.CANCELLED)
        else:
            replica.worker.send(Cancel(request.submission.request_id))

    def expire(self) -> None:
        """End the requests that have waited too long, for a replica or for money."""
        now = self._clock.now()
        for served in self.deployments.values():
            for request in list(served.waiting):
                parked = request.parked is not None and request.parked < now - MONEY_TIMEOUT_US
                refusal = self._funding.give_up(request, served) if parked else None
                if refusal is not None:
                    served.waiting.remove(request)
                    self._refuse(served, request, refusal)
                elif request.arrived < now - QUEUE_TIMEOUT_US:
                    served.waiting.remove(request)
                    waited = QUEUE_TIMEOUT_US // 1_000_000
                    name = public_name(served.deployment.name)
                    error = f"no replica of {name!r} was free for {waited} s"
                    self._end(served, request, Outcome.EXPIRED, None, error=error)
                elif request.arrived < now - QUEUE_TIMEOUT_US // 2:
                    self._move_waiting(served, request)

    # Versions of one deployment.

    def move_waiting(self, name: DeploymentName) -> None:
        """Requests that wait for a version that cannot serve go to the one that can."""
        served = self.deployments[name]
        for request in list(served.waiting):
            self._move_waiting(served, request)

    def _move_waiting(self, served: ServedDeployment, request: LiveRequest) -> None:
        if self._other_arm(served) is not None:
            served.waiting.remove(request)
            self._moved(served, request)

    def _moved(self, served: ServedDeployment, request: LiveRequest) -> bool:
        """Try a request of which nothing was seen on the version that serves its deployment."""
        other = self._other_arm(served)
        if other is None or request.completion_tokens or request.cancelled or self.closing:
            return False
        self._lose(request)
        for account in (request.account, lost(request.account)):
            self._metering.meter.settle(account)
        self.arms.moved(request)
        request.move(other.deployment)
        other.waiting.push_front(request)
        self._dispatch(other)
        return True

    def _other_arm(self, served: ServedDeployment) -> ServedDeployment | None:
        name = self.arms.elsewhere(served.deployment.name)
        other = None if name is None else self.deployments.get(name)
        return None if other is None or other.closed else other

    # Deployments and replicas.

    def add_deployment(self, deployment: Deployment) -> None:
        """Take requests for a deployment from now on."""
        draining = self.deployments.get(deployment.name)
        served = ServedDeployment(deployment, weight_of=self._weight_of)
        if draining is not None:
            served.replicas, served.to_come = draining.replicas, draining.to_come
        self.deployments[deployment.name] = served

    def remove_deployment(self, name: DeploymentName) -> None:
        """Take no more requests; those that wait fail, those on replicas finish."""
        served = self.deployments[name]
        served.closed = True
        for request in list(served.waiting):
            served.waiting.remove(request)
            self._end(served, request, Outcome.FAILED, None, error=f"{name!r} was undeployed")
        self._forget_if_over(served)

    def expects(self, name: DeploymentName) -> bool:
        """Whether a replica of this deployment is of use to anybody."""
        return name in self.deployments

    def starting(self, name: DeploymentName, change: int) -> None:
        """So many more of its processes are about to come; until then it is not forgotten."""
        self.deployments[name].to_come += change

    def _forget_if_over(self, served: ServedDeployment) -> None:
        if served.closed and not served.replicas and not served.to_come:
            del self.deployments[served.deployment.name]

    def add_replica(self, replica_id: ReplicaId, name: DeploymentName, worker: Worker) -> None:
        """A replica's process has started; it takes requests once it is ready."""
        served = self.deployments[name]
        replica = ServedReplica(replica_id, worker, served.deployment, started=self._clock.now())
        served.replicas[replica_id] = replica

    def drain(self, replica_id: ReplicaId) -> None:
        """Send it no new request; `on_drained` when it has none left."""
        for served in self.deployments.values():
            replica = served.replicas.get(replica_id)
            if replica is not None:
                replica.draining = True
                if not replica.running:
                    self._on_drained(replica_id)

    def receive(self, replica_id: ReplicaId, name: DeploymentName, message: object) -> None:
        """A replica's message."""
        served = self.deployments[name]
        replica = served.replicas[replica_id]
        match message:
            case Stepped():
                self._stepped(served, replica, message)
            case Admitted(request_id=request_id, prompt_tokens=prompt_tokens):
                request = replica.running.get(RequestId(request_id))
                if request is not None:
                    self._admitted(served, request, prompt_tokens)
            case Rejected():
                self._rejected(served, replica, message)
            case Ready():
                self._ready(served, replica, message)
            case Failed(message=reason):
                replica.failure = reason
            case _:
                raise TypeError(f"replica {replica_id!r} sent {message!r}, expected FromReplica")

    def _admitted(self, served: ServedDeployment, request: LiveRequest, prompt_tokens: int) -> None:
        request.prompt_tokens = prompt_tokens
        self._funding.admitted(request, served)
        served.waiting.counted(request)
        self._tell(request, Begun(prompt_tokens=Tokens(prompt_tokens)))

    def _ready(self, served: ServedDeployment, replica: ServedReplica, message: Ready) -> None:
        name = served.deployment.name
        loading = Account(kind=Kind.LOADING, deployment=name)
        meter = self._metering.meter
        meter.cover(replica.id, DeviceNanos(message.cpu_ns), loading)
        meter.turn(replica.id, Account(kind=Kind.REQUEST, deployment=name, note=IN_PROGRESS))
        replica.ready = True
        served.watch.load = Micros(self._clock.now() - replica.started)
        replica.max_batch = message.max_batch
        served.context_tokens = Tokens(message.context_tokens)
        self._on_ready(replica.id)
        self._dispatch(served)

    def _rejected(
        self, served: ServedDeployment, replica: ServedReplica, message: Rejected
    ) -> None:
        request = replica.running.pop(RequestId(message.request_id), None)
        if request is None:
            return
        request.rejected = True
        if self._moved(served, request):
            self._dispatch(served)
            return
        self._tell(
            request,
            HouseError(
                message.message,
                status=400,
                type="invalid_request_error",
                param=message.param,
                code=message.code,
            ),
        )
        self._end(served, request, Outcome.FAILED, None, error=message.message)
        self._dispatch(served)

    def _stepped(self, served: ServedDeployment, replica: ServedReplica, message: Stepped) -> None:
        now = self._clock.now()
        replica.cache_usage = message.cache_usage
        self._charge(served, replica, message)
        for share in message.shares:
            request = replica.running.get(RequestId(share.request_id))
            if request is None:
                continue
            request.cached_tokens += share.cached_tokens
            served.cached_tokens += share.cached_tokens
            served.prompt_tokens += share.prefill_tokens + share.cached_tokens
            if share.decode_tokens:
                served.completion_tokens += share.decode_tokens
                request.completion_tokens += share.decode_tokens
                if request.first_token is None:
                    request.first_token = now
                    served.watch.first_token(now - request.arrived, now)
                elif request.last_token is not None:
                    request.gaps.append(Micros(now - request.last_token))
                request.last_token = now
                served.waiting.generated(request, share.decode_tokens)
            if request.transfer is not None and request.stopped is None:
                self._watch_money(replica, request)
        freed = False
        for output in message.outputs:
            request = replica.running.get(RequestId(output.request_id))
            if request is not None:
                freed |= self._output(served, replica, request, output)
        if freed:
            self._dispatch(served)
            if replica.draining and not replica.running:
                self._on_drained(replica.id)

    def _watch_money(self, replica: ServedReplica, request: LiveRequest) -> None:
        """Stop a request whose next steps nobody would pay for."""
        lack = self._funding.stepped(request, self._metering.meter.cost(request.account))
        if lack is not None:
            request.stopped = lack.budget.name
            replica.worker.send(Cancel(request.submission.request_id))

    def _charge(self, served: ServedDeployment, replica: ServedReplica, message: Stepped) -> None:
        meter = self._metering.meter
        until = DeviceNanos(message.cpu_end_ns)
        fresh = DeviceNanos(until - meter.covered(replica.id))
        if fresh <= 0:
            return
        if not message.shares:
            meter.cover(replica.id, until, served.overhead)
            return
        parts: dict[Account, DeviceNanos] = {}
        split = split_step(fresh, message.shares, served.watch.device_cost)
        for share, nanos in zip(message.shares, split, strict=True):
            request = replica.running.get(RequestId(share.request_id))
            account = request.account if request is not None else served.overhead
            parts[account] = DeviceNanos(parts.get(account, 0) + nanos)
        meter.charge(replica.id, until, parts)
        if message.recalled:
            # It says nothing of how fast the model computes.
            served.watch.generated(sum(one.decode_tokens for one in message.shares))
        else:
            served.watch.stepped(message.shares, message.duration_us, fresh)

    def _output(
        self,
        served: ServedDeployment,
        replica: ServedReplica,
        request: LiveRequest,
        output: Output,
    ) -> bool:
        """Hand an output to its client; True if that ended the request."""
        if output.embeddings:
            self._tell(request, Vectors(embeddings=output.embeddings))
        elif output.text:
            completed = Tokens(request.completion_tokens)
            self._tell(request, Delta(text=output.text, completion_tokens=completed))
        if output.finish_reason is None:
            return False
        del replica.running[request.submission.request_id]
        reason = output.finish_reason
        if reason is FinishReason.CANCELLED and request.stopped and not request.cancelled:
            reason = FinishReason.LENGTH
        outcome = Outcome.CANCELLED if reason is FinishReason.CANCELLED else Outcome.DONE
        self._end(served, request, outcome, reason)
        return True

    def replica_ended(self, replica_id: ReplicaId, name: DeploymentName, end: WorkerEnd) -> str:
        """A replica has died: its requests are retried unseen or fail. Returns the reason."""
        served = self.deployments[name]
        replica = served.replicas.pop(replica_id)
        wanted = (replica.draining or self.closing) and not replica.running
        kind = Kind.OVERHEAD if wanted else Kind.LOST if replica.ready else Kind.LOADING
        tail = Account(kind=kind, deployment=name)
        self._metering.worker_ended(replica_id, end.cpu_nanos, tail)
        reason = replica.failure or end.reason
        retried: list[LiveRequest] = []
        for request in replica.running.values():
            request.replica = None
            unseen = request.completion_tokens == 0 and request.attempts < MOST_ATTEMPTS
            if request.cancelled:
                self._end(served, request, Outcome.CANCELLED, FinishReason.CANCELLED)
            elif self._moved(served, request):
                pass
            elif unseen and not self.closing and not replica.draining:
                self._lose(request)
                retried.append(request)
            else:
                self._end(
                    served,
                    request,
                    Outcome.FAILED,
                    None,
                    error=f"the replica that answered died ({reason}); nothing is charged, retry",
                )
        for request in reversed(retried):
            served.waiting.push_front(request)
        self._dispatch(served)
        self._forget_if_over(served)
        return reason

    # The end of a request.

    def _lose(self, request: LiveRequest) -> None:
        """What an attempt used is lost; the tenant does not pay for it."""
        self._metering.meter.move(request.account, lost(request.account))
        request.prompt_tokens = request.cached_tokens = 0

    def _end(
        self,
        served: ServedDeployment,
        request: LiveRequest,
        outcome: Outcome,
        finish_reason: FinishReason | None,
        *,
        error: str | None = None,
    ) -> None:
        assert not request.ended
        request.ended = True
        if outcome in (Outcome.FAILED, Outcome.EXPIRED):
            self._lose(request)
        now = self._clock.now()
        meter = self._metering.meter
        cost = meter.cost(request.account)
        usage = Usage(
            prompt_tokens=Tokens(request.prompt_tokens),
            cached_tokens=Tokens(request.cached_tokens),
            completion_tokens=Tokens(request.completion_tokens),
            device_nanos=meter.used(request.account),
            cost=cost,
            price=self._funding.settle(request, outcome, cost),
        )
        meter.settle(request.account)
        meter.settle(lost(request.account))
        if outcome is Outcome.DONE:
            embedding = isinstance(request.submission.prompt, EmbeddingPrompt)
            served.watch.done(
                request.gaps,
                now,
                prefill_tokens=request.prompt_tokens - request.cached_tokens,
                output_tokens=request.completion_tokens,
                generated=not embedding,
            )
        self._finishes.append(finish_of(request, outcome, finish_reason, now=now))

        def tell(row: RequestRow) -> None:
            ended = Ended(
                outcome=outcome,
                finish_reason=finish_reason,
                usage=replace(usage, price=row.price),
                error=error,
                stopped=request.stopped if outcome is Outcome.DONE else None,
            )
            self._tell(request, ended)

        row = row_of(request, outcome, usage, clock=self._clock, now=now)
        self.arms.ended(request, row)
        self._metering.request_ended(row, tell)
        self._in_flight -= 1
        if self._in_flight == 0:
            self._on_traffic(False)

    @staticmethod
    def _tell(request: LiveRequest, event: Begun | Delta | Vectors | Ended | HouseError) -> None:
        if request.ticket is not None:
            request.ticket.put(event)
