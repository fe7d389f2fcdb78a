"""The doors of levers under /meted/v1: rollouts, receipts, savings and fronts."""

from typing import Annotated, Any

import msgspec
from msgspec import Meta
from starlette.requests import Request
from starlette.routing import Route

from meted.domain.units import DeploymentName
from meted.gateway.errors import decode, refusal
from meted.gateway.guard import Guard, Handler
from meted.gateway.settings_body import SettingsBody
from meted.live.doors import Doors, Key
from meted.live.lever_doors import (
    DEFAULT_BLOCK_S,
    DEFAULT_BLOCKS,
    LEAST_BLOCKS,
    LONGEST_BLOCK_S,
    MOST_BLOCKS,
    FrontPoint,
    RolloutWish,
)
from meted.live.names import check_name
from meted.predict.estimate import Estimate

MOST_BATCH = 4096
MOST_POINTS = 10_000
LEVEL = 0.9

Share = Annotated[float, Meta(ge=-100.0, le=1.0)]
Seconds = Annotated[float, Meta(gt=0.0, le=LONGEST_BLOCK_S)]


class PredictedBody(msgspec.Struct, forbid_unknown_fields=True):
    """The share of cost that is said to be saved: 0.1 is a tenth; low and high default to it."""

    expected: Share
    low: Share | None = None
    high: Share | None = None

    def estimate(self) -> Estimate:
        """Raises ValueError if expected is not between low and high."""
        return Estimate(
            low=self.expected if self.low is None else self.low,
            expected=self.expected,
            high=self.expected if self.high is None else self.high,
            level=LEVEL,
        )


class RolloutBody(msgspec.Struct, forbid_unknown_fields=True):
    """What a POST to /meted/v1/rollouts says; what is left out is as the first version has it."""

    name: str
    predicted: PredictedBody
    checkpoint: str | None = None
    settings: SettingsBody | None = None
    max_batch: Annotated[int, Meta(ge=1, le=MOST_BATCH)] | None = None
    block_s: Seconds = DEFAULT_BLOCK_S
    washout_s: Annotated[float, Meta(ge=0.0, le=LONGEST_BLOCK_S)] | None = None
    canary_s: Seconds | None = None
    seed: Annotated[int, Meta(ge=0, le=2**63 - 1)] = 0
    most_blocks: Annotated[int, Meta(ge=LEAST_BLOCKS, le=MOST_BLOCKS)] = DEFAULT_BLOCKS
    quality_unknown: bool = False


class PointBody(msgspec.Struct, forbid_unknown_fields=True):
    """One way to serve, as a search has measured it; rejected: why it is not to be used."""

    key: str
    usd_per_million: Annotated[float, Meta(ge=0.0)] | None = None
    ttft_p95_ms: Annotated[float, Meta(ge=0.0)] | None = None
    loss: float | None = None
    chosen: bool = False
    rejected: str | None = None


class FrontBody(msgspec.Struct, forbid_unknown_fields=True):
    """What a POST to /meted/v1/fronts says: the last search of a deployment."""

    deployment: str
    points: Annotated[list[PointBody], Meta(max_length=MOST_POINTS)]


_rollout = msgspec.json.Decoder(RolloutBody)
_front = msgspec.json.Decoder(FrontBody)


class Levers:
    """Each door needs an admin key, and each change is entered in the audit log."""

    def __init__(self, doors: Doors, guard: Guard) -> None:
        self._doors = doors
        self._guard = guard

    def routes(self) -> list[Route]:
        rows: list[tuple[str, str, Handler]] = [
            ("GET", "/rollouts", self._rollouts),
            ("POST", "/rollouts", self._start),
            ("GET", "/rollouts/{name}", self._rollout),
            ("DELETE", "/rollouts/{name}", self._stop),
            ("GET", "/receipts", self._receipts),
            ("GET", "/savings", self._savings),
            ("GET", "/fronts", self._fronts),
            ("POST", "/fronts", self._save_front),
        ]
        return [self._guard.admin(method, path, handler) for method, path, handler in rows]

    async def _rollouts(self, request: Request, key: Key) -> Any:
        return self._doors.rollouts()

    async def _rollout(self, request: Request, key: Key) -> Any:
        return self._doors.rollout(request.path_params["name"])

    async def _start(self, request: Request, key: Key) -> Any:
        body = decode(_rollout, await self._guard.body(request))
        wish = _wish(body)
        started = await self._doors.start_rollout(wish)
        detail = msgspec.to_builtins(body)
        self._doors.note(actor=key, action="rollout.start", subject=body.name, detail=detail)
        return started

    async def _stop(self, request: Request, key: Key) -> Any:
        name = request.path_params["name"]
        stopped = self._doors.stop_rollout(name)
        self._doors.note(actor=key, action="rollout.stop", subject=name, detail={})
        return stopped

    async def _receipts(self, request: Request, key: Key) -> Any:
        return self._doors.receipts()

    async def _savings(self, request: Request, key: Key) -> Any:
        return await self._doors.savings()

    async def _fronts(self, request: Request, key: Key) -> Any:
        return await self._doors.fronts()

    async def _save_front(self, request: Request, key: Key) -> Any:
        body = decode(_front, await self._guard.body(request))
        try:
            check_name(body.deployment, "deployment", slash=False)
        except ValueError as error:
            raise refusal(str(error), param="deployment") from error
        points = tuple(
            FrontPoint(
                key=one.key,
                usd_per_million=one.usd_per_million,
                ttft_p95_ms=one.ttft_p95_ms,
                loss=one.loss,
                chosen=one.chosen,
                rejected=one.rejected,
            )
            for one in body.points
        )
        saved = await self._doors.save_front(body.deployment, points)
        detail = {"points": len(points)}
        self._doors.note(actor=key, action="front", subject=body.deployment, detail=detail)
        return saved


def _wish(body: RolloutBody) -> RolloutWish:
    """The wish of a body. Raises HouseError (400) for what does not go together."""
    for what, name in (("name", body.name), ("checkpoint", body.checkpoint)):
        try:
            check_name(name or body.name, what, slash=False)
        except ValueError as error:
            raise refusal(str(error), param=what) from error
    try:
        predicted = body.predicted.estimate()
    except ValueError as error:
        raise refusal(str(error), param="predicted") from error
    try:
        settings = None if body.settings is None else body.settings.settings()
    except ValueError as error:
        raise refusal(str(error), param="settings") from error
    return RolloutWish(
        name=DeploymentName(body.name),
        checkpoint=body.checkpoint,
        settings=settings,
        max_batch=body.max_batch,
        predicted=predicted,
        block_s=body.block_s,
        washout_s=body.washout_s,
        canary_s=body.canary_s,
        seed=body.seed,
        most_blocks=body.most_blocks,
        quality_unknown=body.quality_unknown,
    )
