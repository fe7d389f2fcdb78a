"""The price book as a house begins: what meted.yaml says is its first version, or a new one."""

from meted.domain.pool import Pool
from meted.domain.units import Micros
from meted.ledger.price_book import PriceBook, PriceVersion, Rented
from meted.live.store import Store

NOTE = "meted.yaml"


def opening_prices(store: Store, pool: Pool, *, now: Micros) -> PriceBook:
    """The price book, with the configured price appended where the configuration is new or has
    changed since it was entered; prices that were set by other means stay in force until then."""
    book = store.price_book()
    basis = Rented(nano_usd_per_device_hour=pool.price.nano_usd_per_device_hour)
    for kind in sorted({device.kind for device in pool.devices}):
        known = [version for version in book.versions if version.device_kind == kind]
        configured = [version for version in known if version.note == NOTE]
        if configured and configured[-1].basis == basis:
            continue
        version = PriceVersion(
            device_kind=kind,
            effective=now if known else Micros(0),
            recorded=now,
            basis=basis,
            note=NOTE,
        )
        store.add_price(version)
        book = store.price_book()
    return book
