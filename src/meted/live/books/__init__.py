"""Questions to the books: who spent what, and does everything add up."""

from meted.live.books.billing import Bill, BillRow, Dimension, bill
from meted.live.books.checking import CheckReport, check
from meted.live.books.folding import Folded, compact
from meted.live.books.laws import Law
from meted.live.books.opening import Target
from meted.live.books.repricing import rerate_prices
from meted.live.books.rerating import Rerated, rerate_costs
from meted.live.books.sharing import Sharing
from meted.live.books.statement import Statement, statement

__all__ = [
    "Bill",
    "BillRow",
    "CheckReport",
    "Dimension",
    "Folded",
    "Law",
    "Rerated",
    "Sharing",
    "Statement",
    "Target",
    "bill",
    "check",
    "compact",
    "rerate_costs",
    "rerate_prices",
    "statement",
]
