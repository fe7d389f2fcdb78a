"""What a step asks of ideal hardware: counted from architecture, layout and data sheet only."""

from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

from meted.domain.architecture import Architecture, ModelKind
from meted.predict.communication import NOTHING, all_reduce, all_to_all, point_to_point
from meted.predict.counting import (
    flops_per_pair,
    kv_bytes_per_token,
    parameters,
    prompt_flops_per_pair,
)
from meted.predict.setup import Setup, kv_shards, peak, sparse_experts
from meted.predict.step_time import StepWork

LARGE_MESSAGE_BYTES = 32 * 2**20
"""Above this an all-reduce slows down on the Splitwise machines; `Factors.spill` says how much."""


class StepParts(NamedTuple):
    """What one step asks of ideal hardware: micros at full speed, and counts."""

    compute: float
    weights: float
    cache: float
    wire: float
    spilled: float
    delay: float
    hops: float
    layers: float
    sequences: float
    stages: float
    prompt: float


@dataclass(frozen=True, slots=True, kw_only=True)
class IdealStep:
    """A setup's roofline on ideal hardware: micros at full speed for each unit of work.

    token: of a token through the layers; head: of a token that is sampled. prompt_pair, pair:
    of a pair of tokens in prefill and in decode. weights: read in every step. experts: of all
    routed experts; untouched: chance that one token leaves one expert alone. cache: of a context
    token in layers that see all; windowed: in layers that see `window` tokens.
    wire: of a token on the links; message_bytes: of a token in one all-reduce; delay, hops:
    of a step's messages. lanes: data copies of the replica; stages: of its pipeline.
    """

    token: float
    head: float
    prompt_pair: float
    pair: float
    weights: float
    experts: float
    untouched: float
    expert_copies: float
    cache: float
    windowed: float
    window: float
    wire: float
    message_bytes: float
    delay: float
    hops: float
    layers: int
    lanes: int
    stages: int

    def parts(self, work: StepWork) -> StepParts:
        """The step's parts. Lanes and stages work at the same time on their parts of the batch."""
        prefill, decode, context = work.prefill_tokens, work.decode_tokens, work.context_tokens
        attended = work.attended
        prompt = 1.0 if prefill else 0.0
        sequences = decode + prompt
        share = 1.0
        if self.lanes > 1 or self.stages > 1:
            share = 1.0 / self._split(sequences)
        tokens = (prefill + decode) * share
        cache = self.cache * context
        if self.windowed:
            cache += self.windowed * min(context, self.window * decode)
            inside = self.windowed / (self.cache + self.windowed)
            attended -= inside * max(0.0, attended - self.window * prefill)
            context -= inside * max(0.0, context - self.window * decode)
        weights = self.weights
        if self.experts:
            visits = tokens * self.expert_copies
            weights += self.experts * (1.0 - self.untouched**visits)
        wire = self.wire * tokens
        message = self.message_bytes * tokens
        spilled = wire * (1 - LARGE_MESSAGE_BYTES / message) if message > LARGE_MESSAGE_BYTES else 0
        return StepParts(
            self.token * tokens
            + (self.head * sequences + self.prompt_pair * attended + self.pair * context) * share,
            weights,
            cache * share,
            wire,
            spilled,
            self.delay,
            self.hops,
            self.layers,
            decode * share,
            self.stages,
            prompt,
        )

    def _split(self, sequences: float) -> float:
        """Into how many parts that run at the same time the batch falls."""
        copies = max(1.0, min(self.lanes, sequences))
        return copies * max(1.0, min(self.stages, sequences / copies))


@lru_cache(maxsize=4096)
def _counts(architecture: Architecture) -> tuple[float, float, float, float]:
    """Parameters of the layers that every token reads, of the head, of all routed experts, and of
    the layers that one token visits."""
    counted = parameters(architecture)
    experts = sparse_experts(architecture) * counted.expert
    head = counted.head if architecture.kind is ModelKind.DECODER else 0
    return counted.layers - experts, head, experts, counted.layers_active


def ideal_step(setup: Setup) -> IdealStep:
    """The setup's roofline on ideal hardware.

    Raises ValueError if the kind of device has no peak for the precision of the arithmetic.
    """
    one, kind, algorithm = setup.architecture, setup.kind, setup.algorithm
    layout = algorithm.parallelism
    tensor, copies = layout.tensor, layout.data
    flops = peak(kind, algorithm.compute) * tensor / 1e6
    bandwidth = kind.bandwidth / 1e6
    dense, head, experts, visited = _counts(one)
    stored = algorithm.weights.bits / 8
    head_stored = max(16.0, algorithm.weights.bits) / 8
    shards = max(tensor, layout.expert)
    kv = 0.0
    if one.kind is ModelKind.DECODER:
        kv = kv_bytes_per_token(one, algorithm.kv) / kv_shards(one, tensor) / bandwidth
    inside = one.window_layers / one.layers if one.window is not None else 0.0
    wire, hops, delay = _talk(setup)
    untouched = 1.0
    if one.experts is not None:
        untouched = 1.0 - one.experts.active / one.experts.count
    return IdealStep(
        token=2.0 * visited / flops,
        head=2.0 * head / flops,
        prompt_pair=prompt_flops_per_pair(one) / flops,
        pair=flops_per_pair(one) / flops,
        weights=(dense * stored + head * head_stored) / (tensor * bandwidth),
        experts=experts * stored / (shards * bandwidth),
        untouched=untouched,
        expert_copies=max(1.0, layout.expert / tensor),
        cache=kv * (1 - inside),
        windowed=kv * inside,
        window=float(one.window or 0),
        wire=wire,
        message_bytes=_row_bytes(setup) if tensor > 1 else 0.0,
        delay=delay,
        hops=hops,
        layers=one.layers,
        lanes=copies,
        stages=layout.pipeline,
    )


def _row_bytes(setup: Setup) -> float:
    """Bytes of one token between layers, which stay in 16 bits where matrices use fewer."""
    return setup.architecture.hidden * max(16.0, setup.algorithm.compute.bits) / 8


def _talk(setup: Setup) -> tuple[float, float, float]:
    """Micros of a token on the wires; hops of a step's messages and their delay on ideal links.

    Two all-reduces a layer (Shoeybi et al. 2019); with experts spread, dispatch and combine take
    the second one's place; each pipeline stage hands its tokens on.
    """
    one, kind, layout = setup.architecture, setup.kind, setup.algorithm.parallelism
    row = _row_bytes(setup)
    reduce = all_reduce(kind, layout.tensor) if layout.tensor > 1 else NOTHING
    reduces = 2.0 * one.layers if layout.tensor > 1 else 0.0
    exchange, exchanges, visits = NOTHING, 0.0, 0.0
    if one.experts is not None and layout.expert > 1:
        sparse = one.layers - one.experts.dense_layers
        exchange, exchanges = all_to_all(kind, layout.expert), 2.0 * sparse
        visits = one.experts.active / layout.tensor
        reduces -= sparse if layout.tensor > 1 else 0.0
    hop, stages = NOTHING, 0.0
    if layout.pipeline > 1:
        inside = layout.tensor * layout.pipeline <= kind.node_devices
        hop, stages = point_to_point(kind, inside_node=inside), float(layout.pipeline)
    talk = ((reduces, reduce), (exchanges, exchange), (stages, hop))
    wire = row * (
        reduces * reduce.micros_per_byte
        + exchanges * visits * exchange.micros_per_byte
        + stages * hop.micros_per_byte
    )
    hops = sum(count * each.hops for count, each in talk)
    delay = sum(count * each.delay_micros for count, each in talk)
    return wire, hops, delay
