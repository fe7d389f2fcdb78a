"""What a house writes down of a rollout, so that another run of it goes on where this one was."""

from dataclasses import dataclass, fields
from enum import StrEnum

import msgspec

from meted.domain.arms import public_name
from meted.domain.configuration import Configuration
from meted.domain.deployment import Deployment
from meted.domain.units import DeploymentName, Micros
from meted.live.store import Document
from meted.optimise.receipt import Lever, Receipt, ReceiptId
from meted.optimise.rollout import Phase, Rollout
from meted.optimise.switchback import Arm
from meted.predict.step_time import StepCost


class Written(StrEnum):
    """Kinds of documents."""

    ROLLOUT = "rollout"
    RECEIPT = "receipt"
    FRONT = "front"


@dataclass(frozen=True, slots=True, kw_only=True)
class RolloutRecord:
    """A rollout: both arms as they are deployed, and how far the comparison is.

    Its id is the second arm's name, and the receipt's. yardstick: what values the work of both arms
    alike. gone: its deployment is served no more.
    """

    first: Deployment
    second: Deployment
    state: Rollout
    yardstick: StepCost
    began: Micros
    gone: bool = False

    @property
    def id(self) -> ReceiptId:
        return ReceiptId(self.second.name)

    @property
    def name(self) -> DeploymentName:
        """As clients know it."""
        return public_name(self.second.name)

    @property
    def base(self) -> Deployment:
        """The arm that the deployment falls back to: the first until a promotion."""
        return self.second if self.state.phase is Phase.PROMOTED else self.first

    @property
    def runs(self) -> bool:
        return not self.state.ended and not self.gone

    def arm(self, which: Arm) -> Deployment:
        return self.first if which is Arm.FIRST else self.second


def configuration(deployment: Deployment) -> Configuration:
    """How a deployment is run."""
    return Configuration(
        checkpoint=deployment.checkpoint,
        settings=deployment.settings,
        max_batch=deployment.max_batch,
    )


def lever_of(first: Deployment, second: Deployment) -> Lever:
    """What a rollout changes; where that is several things, the one that weighs most."""
    if first.checkpoint != second.checkpoint:
        return Lever.VARIANT
    if first.settings != second.settings:
        return Lever.ENGINE
    return Lever.BATCH


def changed(first: Deployment, second: Deployment) -> list[str]:
    """Names of the fields in which two arms differ, besides their names."""
    return [
        field.name
        for field in fields(Deployment)
        if field.name != "name" and getattr(first, field.name) != getattr(second, field.name)
    ]


def rollout_document(record: RolloutRecord) -> Document:
    return Document(kind=Written.ROLLOUT, name=record.id, body=_text(record))


def receipt_document(receipt: Receipt) -> Document:
    return Document(kind=Written.RECEIPT, name=receipt.id, body=_text(receipt))


def read_rollout(document: Document) -> RolloutRecord:
    return msgspec.json.decode(document.body, type=RolloutRecord)


def read_receipt(document: Document) -> Receipt:
    return msgspec.json.decode(document.body, type=Receipt)


def _text(value: object) -> str:
    return msgspec.json.encode(value).decode()
