"""Who pays: a tenant, one of its projects, one of its keys."""

from dataclasses import dataclass

from meted.domain.units import KeyId, ProjectName, TenantName

DEFAULT_PROJECT = ProjectName("default")


@dataclass(frozen=True, slots=True, kw_only=True)
class Payer:
    """Who asked and therefore pays, from the whole to the part."""

    tenant: TenantName
    project: ProjectName = DEFAULT_PROJECT
    key: KeyId
