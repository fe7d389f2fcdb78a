"""A roofline's step time as the straight line that the live fit and the books work with."""

import numpy as np

from meted.predict.replica import StepTime
from meted.predict.step_time import FAINT, StepCost, StepWork, fit

_FAINTEST = StepCost(fixed=1e3, prefill=10.0, decode=10.0, context=0.1, attention=0.01)


def linearised(step: StepTime, *, chunk_tokens: int, max_batch: int) -> StepCost:
    """The `StepCost` that is nearest to a step time over the steps that a replica sees.

    Least squares of relative errors over batches up to `max_batch`, contexts of 64 to 2048 tokens,
    alone and beside chunks of a prompt; no part is negative.
    """
    rows: list[tuple[float, ...]] = []
    batches = sorted({1, 2, 4, max(1, max_batch // 2), max_batch})
    for context in (64, 512, 2048):
        for batch in (0, *batches):
            for prefill in (0, chunk_tokens // 8, chunk_tokens):
                if not batch and not prefill:
                    continue
                work = StepWork(
                    prefill_tokens=prefill,
                    decode_tokens=batch,
                    context_tokens=batch * context,
                    attended=prefill * (2 * context + prefill) // 2 if prefill else 0,
                )
                rows.append(
                    (1.0, prefill, batch, work.context_tokens, work.attended, step.micros(work))
                )
    return fit(np.array(rows, dtype=np.float64), _FAINTEST, FAINT)
