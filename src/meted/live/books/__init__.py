"""Questions to the books: who spent what, and does everything add up."""

from meted.live.books.billing import Bill, BillRow, Dimension, bill
from meted.live.books.checking import CheckReport, check
from meted.live.books.laws import Law
from meted.live.books.opening import Target
from meted.live.books.sharing import Sharing

__all__ = [
    "Bill",
    "BillRow",
    "CheckReport",
    "Dimension",
    "Law",
    "Sharing",
    "Target",
    "bill",
    "check",
]
