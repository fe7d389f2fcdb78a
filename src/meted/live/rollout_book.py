"""All rollouts of a house and their receipts: at hand, and written down step by step."""

from collections.abc import Callable
from dataclasses import replace

from meted.live.clock import Clock
from meted.live.rollout_record import (
    RolloutRecord,
    Written,
    read_receipt,
    read_rollout,
    receipt_document,
    rollout_document,
)
from meted.live.store import Document, Store
from meted.optimise.receipt import Receipt, ReceiptId, moved
from meted.optimise.rollout import EnterReceipt


class RolloutBook:
    """Those that ended too; records: oldest first.

    later: makes a call to the store after all before it.
    """

    def __init__(
        self, *, clock: Clock, store: Store, later: Callable[[Callable[[], None]], None]
    ) -> None:
        self._clock = clock
        self._store = store
        self._later = later
        self.records: dict[ReceiptId, RolloutRecord] = {}
        self.receipts: dict[ReceiptId, Receipt] = {}

    def read(self) -> None:
        """What other runs of the house wrote down."""
        for document in self._store.documents(Written.RECEIPT):
            receipt = read_receipt(document)
            self.receipts[receipt.id] = receipt
        for document in self._store.documents(Written.ROLLOUT):
            record = read_rollout(document)
            self.records[record.id] = record

    def entered(self, receipt: Receipt, entry: EnterReceipt) -> Receipt:
        """The receipt with what happened now; it is in the book once it is written."""
        receipt = moved(
            receipt,
            entry.status,
            at=self._clock.wall(),
            reason=entry.reason,
            measured=entry.measured,
        )
        return replace(receipt, first=entry.first, second=entry.second)

    def write(self, record: RolloutRecord, receipt: Receipt | None = None) -> None:
        """A step, in one transaction. receipt: None, or as before, where it has not moved."""
        before = self.records.get(record.id)
        self.records[record.id] = record
        if before is not None and record.state.quiet > before.state.quiet:
            # Nobody asked: nothing is lost with it, and a quiet week would fill the store.
            return
        documents: list[Document] = [rollout_document(record)]
        if receipt is not None and receipt != self.receipts[record.id]:
            self.receipts[record.id] = receipt
            documents.append(receipt_document(receipt))
        self._later(lambda: self._store.append_documents(documents))
