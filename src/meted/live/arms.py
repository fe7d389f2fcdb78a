"""What the hot path asks of, and tells, whoever compares versions of a deployment."""

from typing import Protocol

from meted.domain.units import DeploymentName
from meted.live.store import RequestRow
from meted.live.tickets import LiveRequest


class Arms(Protocol):
    """Versions of deployments, as requests meet them."""

    def elsewhere(self, arm: DeploymentName) -> DeploymentName | None:
        """Where a request goes that this version could not serve; None: it ends here."""
        ...

    def moved(self, request: LiveRequest) -> None:
        """A request is about to leave a version that could not serve it."""
        ...

    def ended(self, request: LiveRequest, row: RequestRow) -> None:
        """A request has ended, with this row for the books."""
        ...


class NoArms:
    """Every deployment has one version."""

    def elsewhere(self, arm: DeploymentName) -> DeploymentName | None:
        return None

    def moved(self, request: LiveRequest) -> None:
        pass

    def ended(self, request: LiveRequest, row: RequestRow) -> None:
        pass
