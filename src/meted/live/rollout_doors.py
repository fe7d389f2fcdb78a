"""The house's levers as its doors see them: `LeverDoors` over the real house."""

import asyncio
from typing import Any

import msgspec

from meted.domain.units import DeploymentName
from meted.live.checkpoints import Checkpoint, CheckpointError
from meted.live.doors import HouseError
from meted.live.engine_settings import check_served_settings, draft_of
from meted.live.fronts import front_document
from meted.live.house import House
from meted.live.importing import import_checkpoint
from meted.live.lever_doors import FrontPoint, RolloutWish
from meted.live.rollout_record import RolloutRecord, Written, configuration, lever_of
from meted.live.rollout_savings import tokens_served
from meted.live.rollout_start import QualityError, check_context, plan_of, second_arm, verdict_on
from meted.live.rollout_views import receipt_view, rollout_view, savings_view
from meted.live.store import StoreDownError
from meted.optimise.receipt import Receipt, ReceiptId, Status

INVALID = "invalid_request_error"


class HouseLevers:
    """A part of `HouseDoors`."""

    _house: House

    async def start_rollout(self, wish: RolloutWish) -> dict[str, Any]:
        house, rollouts = self._house, self._house.rollouts
        self._check_free(wish.name)
        first = house.state.deployments[rollouts.base(wish.name)]
        second = second_arm(wish, first, rollouts.next_arm(wish.name))
        try:
            plan = plan_of(wish, first)
        except ValueError as error:
            raise _refused(str(error), param="most_blocks") from error
        if not second.settings.brings_its_weights:
            await self._bring(second.checkpoint, draft_of(second.settings))
        checkpoint = self._known(second.checkpoint)
        try:
            if checkpoint is not None:
                if checkpoint.task is not first.task:
                    raise ValueError(f"{checkpoint.name!r} is for {checkpoint.task}")
                check_served_settings(
                    second.settings,
                    checkpoint=second.checkpoint,
                    registry=house.registry,
                    cores=len(house.settings.pool.devices),
                )
                served = house.serving.deployments[first.name].context_tokens
                context = second.settings.context_tokens or checkpoint.context_tokens
                check_context(served, max(context, 1))
        except ValueError as error:
            raise _refused(str(error), param="settings") from error
        try:
            verdict = verdict_on(first, second, checkpoint, unknown=wish.quality_unknown)
        except QualityError as error:
            raise _refused(str(error), param="quality_unknown", status=409) from error
        # Bringing a checkpoint took its time.
        self._check_free(wish.name)
        receipt = Receipt(
            id=ReceiptId(second.name),
            lever=lever_of(first, second),
            deployment=second.name,
            before=str(configuration(first)),
            after=str(configuration(second)),
            predicted=wish.predicted,
            began=house.clock.wall(),
        )
        record = rollouts.start(
            first=first,
            second=second,
            plan=plan,
            receipt=receipt,
            quality=verdict,
            yardstick=house.serving.deployments[first.name].watch.device_cost,
        )
        return self._view(record)

    def rollouts(self) -> list[dict[str, Any]]:
        return [self._view(record) for record in self._house.rollouts.records.values()]

    def rollout(self, name: str) -> dict[str, Any]:
        return self._view(self._found(name))

    def stop_rollout(self, name: str) -> dict[str, Any]:
        record = self._found(name)
        if not record.runs:
            raise _refused(
                f"the rollout {record.id} has ended: it is {record.state.phase}; there is nothing "
                "to stop",
                param="name",
                status=409,
            )
        self._house.rollouts.cancel(record.name, "it was stopped")
        return self.rollout(record.id)

    def receipts(self) -> list[dict[str, Any]]:
        return [receipt_view(one) for one in self._house.rollouts.receipts.values()]

    async def savings(self) -> dict[str, Any]:
        receipts = dict(self._house.rollouts.receipts)
        since = {
            one.deployment: one.ended
            for one in receipts.values()
            if one.status is Status.VERIFIED and one.ended is not None
        }
        books = self._house.settings.books
        tokens = await asyncio.to_thread(lambda: tokens_served(books, since))
        return savings_view(receipts, {ReceiptId(name): found for name, found in tokens.items()})

    async def fronts(self) -> list[dict[str, Any]]:
        house = self._house
        try:
            found = await house.metering.in_writer(lambda: house.store.documents(Written.FRONT))
        except StoreDownError as error:
            raise _down(error) from error
        return [msgspec.json.decode(one.body) for one in found]

    async def save_front(self, deployment: str, points: tuple[FrontPoint, ...]) -> dict[str, Any]:
        house = self._house
        document = front_document(deployment, points, house.clock.wall())
        try:
            await house.metering.in_writer(lambda: house.store.append_documents([document]))
        except StoreDownError as error:
            raise _down(error) from error
        return msgspec.json.decode(document.body)

    def _view(self, record: RolloutRecord) -> dict[str, Any]:
        rollouts = self._house.rollouts
        running = rollouts.running(record.name)
        mine = running is not None and running.record.id == record.id
        return rollout_view(
            record,
            rollouts.receipts[record.id],
            running.turn if running is not None and mine else None,
            self._house.clock.now(),
        )

    def _found(self, name: str) -> RolloutRecord:
        records = self._house.rollouts.records
        found = [one for one in records.values() if name in (one.id, one.name)]
        if not found:
            known = ", ".join(records) or "none"
            raise _refused(
                f"there is no rollout of {name!r}; there are: {known}", param="name", status=404
            )
        return found[-1]

    def _check_free(self, name: DeploymentName) -> None:
        house = self._house
        if not house.rollouts.serves(name):
            known = ", ".join(house.rollouts.public()) or "none"
            raise _refused(
                f"no deployment is named {name!r}; there are: {known}", param="name", status=404
            )
        if (running := house.rollouts.running(name)) is not None:
            raise _refused(
                f"the rollout {running.record.id} of {name!r} runs; wait for it, or stop it",
                param="name",
                status=409,
            )

    def _known(self, checkpoint: str) -> Checkpoint | None:
        try:
            return self._house.registry.get(checkpoint)
        except CheckpointError:
            return None

    async def _bring(self, *checkpoints: str | None) -> None:
        """Import built-in checkpoints that are not there. Raises HouseError for any other."""
        for checkpoint in checkpoints:
            if checkpoint is not None and not self._house.registry.has(checkpoint):
                await import_checkpoint(
                    metering=self._house.metering,
                    folder=self._house.settings.checkpoints,
                    name=checkpoint,
                    path=None,
                    on_progress=lambda text: None,
                )


def _refused(message: str, *, param: str, status: int = 400) -> HouseError:
    return HouseError(message, status=status, type=INVALID, param=param)


def _down(error: StoreDownError) -> HouseError:
    return HouseError(
        f"{error}; try again in a moment",
        status=503,
        type="server_error",
        code="store_down",
        retry_after_s=2,
    )
