"""Re-ratings of cost as the books hold them."""

from meted.domain.pool import Device
from meted.domain.units import Micros
from meted.ledger.price_book import PriceBook
from meted.ledger.rerate import Coverage, Rerate
from meted.live.stores.database import Statements

DEVICE_KIND = Device(index=0).kind
"""All devices of a pool are of one kind, and an interval does not say which."""


def coverage(db: Statements, book: PriceBook, device_kind: str = DEVICE_KIND) -> Coverage:
    """The re-ratings that corrected costs; those that corrected prices only are no part of it."""
    rows = db.rows(
        "SELECT id, at, started, ended FROM rerates"
        " WHERE id IN (SELECT rerate FROM corrections) ORDER BY id"
    )
    rerates = [
        Rerate(id=number, at=Micros(at), started=Micros(started), ended=Micros(ended))
        for number, at, started, ended in rows
    ]
    return Coverage(rerates, book, device_kind)
