"""Budget alerts: a sentence for the log, a POST for whoever asked to be told."""

import asyncio
import logging
import urllib.request

import msgspec

from meted.live.budget_desk import Alert
from meted.live.dollars import usd
from meted.live.refusals import resets_at, scope

TRIES = 3
TIMEOUT_S = 5.0
PAUSE_S = 2.0

log = logging.getLogger(__name__)


def alert_sentence(alert: Alert) -> str:
    """What has been reached, with its numbers."""
    budget = alert.budget
    what = "hard" if budget.hard else "soft"
    return (
        f"{what} budget {budget.name!r} ({scope(budget)}) has reached {alert.threshold} % of its "
        f"${usd(budget.limit)}: ${usd(alert.spent)} are spent"
    )


async def post_alert(url: str, alert: Alert) -> None:
    """Tell a webhook, as JSON; try again a few times, then say in the log that it failed."""
    body = msgspec.json.encode(
        {
            "event": "budget_alert",
            "text": alert_sentence(alert),
            "budget": alert.budget.name,
            "tenant": alert.budget.tenant,
            "hard": alert.budget.hard,
            "threshold_percent": alert.threshold,
            "spent_usd": usd(alert.spent),
            "limit_usd": usd(alert.budget.limit),
            "resets_at": resets_at(alert.window),
        }
    )
    for left in reversed(range(TRIES)):
        try:
            await asyncio.to_thread(_post, url, body)
        except OSError as error:
            if not left:
                log.error("the alert webhook does not answer: %s", error)
                return
            await asyncio.sleep(PAUSE_S)
        else:
            return


def _post(url: str, body: bytes) -> None:
    request = urllib.request.Request(
        url, data=body, headers={"Content-Type": "application/json"}, method="POST"
    )
    with urllib.request.urlopen(request, timeout=TIMEOUT_S) as reply:
        reply.read()
