"""What the doors may ask of the house about levers: rollouts, receipts, savings and fronts."""

from dataclasses import dataclass
from typing import Any, Protocol

from meted.domain.engine_settings import EngineSettings
from meted.domain.units import DeploymentName
from meted.predict.estimate import Estimate

LEAST_BLOCKS = 6
DEFAULT_BLOCKS = 24
MOST_BLOCKS = 2_000
DEFAULT_BLOCK_S = 120.0
LONGEST_BLOCK_S = 86_400.0


@dataclass(frozen=True, slots=True, kw_only=True)
class RolloutWish:
    """A second version of a deployment; None: as the first has it.

    predicted: the share of cost that it was said to save. block_s: seconds of a turn, of which the
    first washout_s count for nothing (None: a tenth, 15 s at most). canary_s: seconds of each
    canary turn (None: a block). quality_unknown: the user wants it though nobody knows its quality.
    """

    name: DeploymentName
    checkpoint: str | None = None
    settings: EngineSettings | None = None
    max_batch: int | None = None
    predicted: Estimate
    block_s: float = DEFAULT_BLOCK_S
    washout_s: float | None = None
    canary_s: float | None = None
    seed: int = 0
    most_blocks: int = DEFAULT_BLOCKS
    quality_unknown: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class FrontPoint:
    """A way to serve, as a search has measured it; None where it was not.

    usd_per_million: dollars per million tokens. loss: nats per token over the parent's.
    rejected: why it is not to be used, None for one that may be.
    """

    key: str
    usd_per_million: float | None = None
    ttft_p95_ms: float | None = None
    loss: float | None = None
    chosen: bool = False
    rejected: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Front:
    """The last search of a deployment. at: seconds since 1970."""

    deployment: str
    at: float
    points: tuple[FrontPoint, ...]


class LeverDoors(Protocol):
    """The part of `Doors` that is about levers. Bodies are JSON-ready."""

    async def start_rollout(self, wish: RolloutWish) -> dict[str, Any]:
        """Begin. Raises HouseError: 404 no such deployment or checkpoint, 409 one of it runs
        already, or its quality did not pass, 400 what does not go together."""
        ...

    def rollouts(self) -> list[dict[str, Any]]:
        """All, oldest first."""
        ...

    def rollout(self, name: str) -> dict[str, Any]:
        """One by its id, or the last of a deployment. Raises HouseError 404."""
        ...

    def stop_rollout(self, name: str) -> dict[str, Any]:
        """The first version gets everything back at once. Raises HouseError 404, or 409 if it has
        ended."""
        ...

    def receipts(self) -> list[dict[str, Any]]:
        """All, oldest first."""
        ...

    async def savings(self) -> dict[str, Any]:
        """Receipts with what each has saved, and the sum of what is verified."""
        ...

    async def fronts(self) -> list[dict[str, Any]]: ...

    async def save_front(
        self, deployment: str, points: tuple[FrontPoint, ...]
    ) -> dict[str, Any]: ...
