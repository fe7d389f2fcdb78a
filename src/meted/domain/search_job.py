"""Searches that run as jobs: which variants of a checkpoint pass, and how to serve it cheapest."""

from dataclasses import dataclass
from typing import ClassVar

from meted.domain.deployment import DEFAULT_SLO, SLO
from meted.domain.job import JobKind, JobSpec
from meted.domain.units import NanoUSD

DEFAULT_LEVERS = ("int8", "int4-g64", "gguf-q8_0", "gguf-q4_0")


@dataclass(frozen=True, slots=True, kw_only=True)
class VariantSearch(JobSpec):
    """Make variants of `base`, judge each on `data`, and register those that pass.

    levers: names as `parse_lever` takes them. most_loss_increase, most_kl: nats per token;
    most_accuracy_drop: share of right answers; None: not asked. blocks: of 256 tokens to judge on.
    questions: for the accuracy. training_steps: of each repair and distillation; None: the lever's
    own. keep: register rejected ones, too.
    """

    kind: ClassVar[JobKind] = JobKind.VARIANTS

    levers: tuple[str, ...] = DEFAULT_LEVERS
    most_loss_increase: float = 0.02
    most_accuracy_drop: float | None = None
    most_kl: float | None = None
    blocks: int = 64
    questions: int = 100
    seed: int = 0
    training_steps: int | None = None
    keep: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class ServingSearch(JobSpec):
    """Search engines, settings and variants of `base` for the fewest dollars per million tokens.

    traffic: `house`, a trace's path, or numbers as `rate=1,input=200,output=60`; prompts are cut
    from `data`. rate: requests per second to scale it to. requests: of a full measurement.
    effort: full measurements that may be spent; budget: or dollars of device time. variants:
    checkpoints to look at besides `base`; None for all made of it. drafts: that may draft. levers:
    None for all.
    """

    kind: ClassVar[JobKind] = JobKind.SERVING

    traffic: str
    slo: SLO = DEFAULT_SLO
    rate: float | None = None
    requests: int = 48
    effort: float = 6.0
    budget: NanoUSD | None = None
    variants: tuple[str, ...] | None = None
    drafts: tuple[str, ...] = ()
    levers: tuple[str, ...] | None = None
    seed: int = 0
