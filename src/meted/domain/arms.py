"""The versions of a deployment: each is a deployment too, named after the one that clients know."""

import re

from meted.domain.units import DeploymentName

_ARM = re.compile(r"(?s)(.+)~([1-9][0-9]*)")


def arm_name(public: str, number: int) -> DeploymentName:
    """The name of a deployment's version; the first has the public name itself."""
    return DeploymentName(f"{public}~{number}")


def arm_number(name: str) -> int:
    """Which version a name means; 1 for a public name."""
    found = _ARM.fullmatch(name)
    return 1 if found is None else int(found[2])


def public_name(name: str) -> DeploymentName:
    """The name by which clients ask for a version, and for which rates and budgets are made."""
    # Most names have no version, and this is asked for each request.
    found = _ARM.fullmatch(name) if "~" in name else None
    return DeploymentName(name if found is None else found[1])
