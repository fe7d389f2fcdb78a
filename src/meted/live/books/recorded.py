"""Requests as the books remember them, for plans that rest on the house's own traffic."""

from meted.domain.units import DeploymentName, Micros
from meted.live.books.opening import Target, opened
from meted.live.stores.database import Statements, whole
from meted.predict.batching import Arrival


def recorded_arrivals(target: Target, deployment: DeploymentName | None = None) -> list[Arrival]:
    """Every request that generated something, in order of arrival, the first at moment 0.

    deployment: only its requests, None for all. Folded hours have lost single requests.
    Raises StoreError if the books cannot be read.
    """

    def work(db: Statements) -> list[Arrival]:
        rows = [
            Arrival(Micros(whole(at)), whole(prompt), whole(output), whole(cached))
            for at, prompt, output, cached, name in db.rows(
                "SELECT arrived, prompt_tokens, completion_tokens, cached_tokens, deployment "
                "FROM requests JOIN accounts ON accounts.id = requests.account "
                "WHERE completion_tokens > 0 AND prompt_tokens > 0 ORDER BY arrived"
            )
            if deployment is None or name == deployment
        ]
        return [
            Arrival(
                Micros(one.at - rows[0].at), one.prompt_tokens, one.output_tokens, one.cached_tokens
            )
            for one in rows
        ]

    with opened(target) as database:
        return database.read(work)
