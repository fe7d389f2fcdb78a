"""Cross-entropy straight from hidden states: the logits of a whole batch never exist at once."""
# ruff: noqa: N803, N806 (shapes are part of names: N tokens, C tokens of a chunk, D width, V vocabulary)

from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function

CHUNK = 128
"""Rows of logits at a time; 64 to 256 are equally fast (Xeon with AMX, 2 threads)."""


class _FusedCrossEntropy(Function):
    """The gradient is worked out beside the loss, while a chunk's logits are at hand.

    As in Liger Kernel (Hsu et al. 2024, arXiv:2410.10989), section 3.2.
    """

    @staticmethod
    def forward(ctx: Any, hidden_ND: Tensor, head_VD: Tensor, targets_N: Tensor) -> Tensor:
        needs_head: bool = ctx.needs_input_grad[1]
        weight_VD = head_VD.to(hidden_ND.dtype)
        hidden_grad_ND = torch.empty_like(hidden_ND)
        head_grad_VD = torch.zeros_like(head_VD) if needs_head else None
        total = torch.zeros((), dtype=torch.float32)
        for start in range(0, len(hidden_ND), CHUNK):
            hidden_CD = hidden_ND[start : start + CHUNK]
            targets_C1 = targets_N[start : start + CHUNK, None]
            logits_CV = (hidden_CD @ weight_VD.T).float()
            norms_C1 = torch.logsumexp(logits_CV, dim=-1, keepdim=True)
            total += (norms_C1 - logits_CV.gather(1, targets_C1)).sum()
            if not ctx.needs_input_grad[0]:
                continue
            grad_CV = logits_CV.sub_(norms_C1).exp_()
            grad_CV.scatter_add_(1, targets_C1, torch.full_like(norms_C1, -1.0))
            grad_CV = grad_CV.to(hidden_ND.dtype)
            hidden_grad_ND[start : start + CHUNK] = grad_CV @ weight_VD
            if head_grad_VD is not None:
                head_grad_VD += grad_CV.T @ hidden_CD
        ctx.save_for_backward(hidden_grad_ND, head_grad_VD)
        ctx.count = len(hidden_ND)
        return total / len(hidden_ND)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor | None, None]:
        hidden_grad_ND, head_grad_VD = ctx.saved_tensors
        scale = grads[0] / ctx.count
        return (
            hidden_grad_ND * scale.to(hidden_grad_ND.dtype),
            None if head_grad_VD is None else head_grad_VD * scale,
            None,
        )


def fused_cross_entropy(hidden_ND: Tensor, head_VD: Tensor, targets_N: Tensor) -> Tensor:
    """Mean cross-entropy of softmax(hidden @ head.T) in nats, differentiable in the first two."""
    apply: Any = _FusedCrossEntropy.apply  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType]
    return apply(hidden_ND, head_VD, targets_N)
