"""One replica's requests, step by step: what each of them feels."""

from collections import deque
from collections.abc import Sequence

import numpy as np

from meted.policy.fleet.check import Felt
from meted.policy.fleet.traffic import Arrival
from meted.predict.replica import ReplicaModel
from meted.predict.step_time import StepWork


def replay_requests(replica: ReplicaModel, arrivals: Sequence[Arrival]) -> Felt:
    """Continuous batching with chunked prefill, first come first served.

    Each step decodes one token of every running request and fills the rest of its chunk with
    prompt tokens; a request is let in while its whole length has room in the KV cache.
    """
    count = len(arrivals)
    first, last = np.zeros(count), np.zeros(count)
    waiting: deque[int] = deque()
    prompts: deque[list[int]] = deque()
    decoding: list[list[int]] = []
    now, come, held = 0.0, 0, 0
    micros = replica.step.micros
    while come < count or waiting or prompts or decoding:
        if not (waiting or prompts or decoding):
            now = max(now, float(arrivals[come].at))
        while come < count and arrivals[come].at <= now:
            waiting.append(come)
            come += 1
        room = max(1, replica.chunk_tokens - len(decoding))
        taken, pairs = 0, 0
        finished: list[int] = []
        while taken < room:
            if not prompts:
                if not waiting or len(decoding) + len(finished) >= replica.max_batch:
                    break
                one = arrivals[waiting[0]]
                if held and held + one.prompt_tokens + one.output_tokens > replica.kv_tokens:
                    break
                held += one.prompt_tokens + one.output_tokens
                cached = max(one.cached_tokens, int(replica.prefix_hit * one.prompt_tokens))
                prompts.append([waiting.popleft(), min(cached, one.prompt_tokens - 1)])
            current = prompts[0]
            number, done = current
            part = min(room - taken, arrivals[number].prompt_tokens - done)
            pairs += part * done + part * part // 2
            taken += part
            current[1] += part
            if current[1] >= arrivals[number].prompt_tokens:
                finished.append(number)
                prompts.popleft()
        now += micros(
            StepWork(
                prefill_tokens=taken,
                decode_tokens=len(decoding),
                context_tokens=sum(one[2] for one in decoding),
                attended=pairs,
            )
        )
        running: list[list[int]] = []
        for one in decoding:
            one[1] -= 1
            one[2] += 1
            if one[1]:
                running.append(one)
            else:
                last[one[0]] = now
                held -= arrivals[one[0]].prompt_tokens + arrivals[one[0]].output_tokens
        decoding = running
        for number in finished:
            one = arrivals[number]
            first[number] = last[number] = now
            if one.output_tokens > 1:
                decoding.append([number, one.output_tokens - 1, one.prompt_tokens + 1])
            else:
                held -= one.prompt_tokens + one.output_tokens
    came = np.array([one.at for one in arrivals], dtype=float)
    later = np.array([one.output_tokens - 1 for one in arrivals], dtype=float)
    tpot = np.divide(last - first, later, out=np.full(count, np.nan), where=later > 0)
    return Felt(ttft=first - came, tpot=tpot, e2e=last - came)
