"""The last search of a deployment as the store keeps it, for the page."""

import msgspec

from meted.domain.units import Micros
from meted.live.lever_doors import Front, FrontPoint
from meted.live.rollout_record import Written
from meted.live.store import Document


def front_document(deployment: str, points: tuple[FrontPoint, ...], at: Micros) -> Document:
    """at: on the wall clock."""
    front = Front(deployment=deployment, at=at / 1e6, points=points)
    body = msgspec.json.encode(front).decode()
    return Document(kind=Written.FRONT, name=deployment, body=body)
