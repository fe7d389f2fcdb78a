"""A job: a finite piece of work on the pool, how it is to be run and how far it is."""

from dataclasses import dataclass
from enum import StrEnum
from typing import ClassVar

from meted.domain.tenancy import DEFAULT_PROJECT
from meted.domain.units import JobName, KeyId, NanoUSD, ProjectName, TenantName


class JobKind(StrEnum):
    """What a job does: train a checkpoint, make variants of one, or search how to serve it."""

    TRAINING = "training"
    VARIANTS = "variants"
    SERVING = "serving"


@dataclass(frozen=True, slots=True, kw_only=True)
class JobSpec:
    """What every job is asked with: its name, its checkpoint, the user's text, and who pays."""

    kind: ClassVar[JobKind]

    name: JobName
    base: str
    data: str
    tenant: TenantName
    project: ProjectName = DEFAULT_PROJECT
    key: KeyId = KeyId("")


class Method(StrEnum):
    """Which parameters a training job moves: low-rank adapters (Hu et al. 2021), or all of them."""

    LORA = "lora"
    FULL = "full"


class LoraTargets(StrEnum):
    """Which linear layers get adapters."""

    ALL = "all"
    ATTENTION = "attention"
    MLP = "mlp"


class RateFinder(StrEnum):
    """Whence a search takes the middle of its learning rates: the recipe of the optimizer, a range
    test of the network itself, or one of a proxy with fewer layers."""

    RECIPE = "recipe"
    RANGE = "range"
    PROXY = "proxy"


@dataclass(frozen=True, slots=True, kw_only=True)
class AutoTraining:
    """A search for the job's levers before its training: trials, the poor ones cut short.

    price: nano-USD per device-hour at which trials are reckoned; 0: they are compared all the same,
    and cost nothing. budget: of all trials together; None: as much as the job itself will cost.
    deadline_s: of wall time, from when the search began. target_loss: the least dollars to this
    held-out loss are sought; None: the least loss. levers: of `AUTO_LEVERS`. trials: the most that
    are begun. finish: the best trial trains on to the job's end; else its weights, as they are, are
    the result.
    """

    price: NanoUSD = NanoUSD(0)
    budget: NanoUSD | None = None
    deadline_s: float | None = None
    target_loss: float | None = None
    levers: tuple[str, ...] = ("optimizer", "rate", "rank", "targets")
    trials: int = 27
    finder: RateFinder = RateFinder.RANGE
    finish: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingSpec(JobSpec):
    """What a user asks of a training job.

    steps counts optimizer steps; epochs passes over the training part; exactly one is given.
    batch_tokens: tokens per optimizer step, or None for the whole training part in each step
    (full-batch gradient descent). micro_batch: sequences per forward pass. lora_alpha: adapters
    count lora_alpha / lora_rank; None: 2. patience: so many held-out losses in a row without a new
    least end the training, whose result is then the weights of the least; None: never.
    """

    kind: ClassVar[JobKind] = JobKind.TRAINING

    method: Method = Method.LORA
    optimizer: str = "adamw"
    steps: int | None = None
    epochs: float | None = None
    learning_rate: float | None = None
    sequence_tokens: int = 256
    micro_batch: int = 2
    batch_tokens: int | None = 2048
    lora_rank: int = 16
    lora_alpha: float | None = None
    lora_targets: LoraTargets = LoraTargets.ALL
    activation_checkpointing: bool = False
    patience: int | None = None
    warmup: float = 0.05
    weight_decay: float = 0.0
    held_out: float = 0.1
    eval_every: int = 20
    checkpoint_every: int = 20
    seed: int = 0
    precision: str = "auto"
    auto: AutoTraining | None = None


class JobStatus(StrEnum):
    """Where a job is in its life. The last three are final."""

    QUEUED = "queued"
    STARTING = "starting"
    RUNNING = "running"
    PAUSED = "paused"
    BACKOFF = "backoff"
    DONE = "done"
    FAILED = "failed"
    CANCELLED = "cancelled"


FINAL_JOB_STATUSES = frozenset({JobStatus.DONE, JobStatus.FAILED, JobStatus.CANCELLED})


class TrainingPhase(StrEnum):
    """What a job's process is busy with; evaluation and conversion cost device time too.

    A search of variants converts (makes one) and evaluates (judges it); a search of serving
    evaluates.
    """

    LOADING = "loading"
    TRAIN = "train"
    EVALUATE = "evaluate"
    CHECKPOINT = "checkpoint"
    CONVERT = "convert"


@dataclass(frozen=True, slots=True, kw_only=True)
class JobProgress:
    """How far a job is. Losses are mean nats per token; None until measured, or where nothing is
    trained. Steps are the optimizer's; of a search the levers tried or the requests measured."""

    step: int = 0
    total_steps: int = 0
    phase: TrainingPhase = TrainingPhase.LOADING
    loss: float | None = None
    tokens: int = 0
    held_out_before: float | None = None
    held_out: float | None = None
    held_out_converted: float | None = None
    checkpoint_step: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """A job: what was asked, where it is, and why it ended if it failed.

    held: why no budget pays for its next part; empty while one does. devices: of its process.
    preempted: it is to give its devices up and to come back when it is allotted some.
    """

    spec: JobSpec
    status: JobStatus
    progress: JobProgress = JobProgress()
    pause_wanted: bool = False
    cancel_wanted: bool = False
    held: str = ""
    starts: int = 0
    retry_at: int | None = None
    devices: tuple[int, ...] = ()
    preempted: bool = False
    error: str | None = None
