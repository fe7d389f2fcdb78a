"""Weights for OpenVINO: exported once in float by optimum, then quantised by NNCF each time anew.

NNCF's methods: AWQ with scale estimation, GPTQ; all from the float export, never one on another.
"""
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false
# pyright: reportUnknownArgumentType=false, reportMissingTypeStubs=false
# pyright: reportPrivateImportUsage=false

import logging
import shutil
from pathlib import Path
from typing import Any

from meted.domain.variant import Calibration, FloatType, IntType, Quantise
from meted.live.checkpoints.checkpoint import MODEL, CheckpointError
from meted.live.checkpoints.facts import last_line
from meted.live.training.data import Ids
from meted.live.variants.networks import feed_of

CALIBRATION_ROWS = 32
"""Blocks of text by which rounding is guided."""
AWQ_STEPS = 20
"""Exponents that AWQ tries for each layer, as its authors do; NNCF's 100 take five times as long
(5 minutes for 135 million parameters, VM, 2 cores AMD EPYC, November 2026)."""


def export_float(hf_folder: Path, out: Path, *, type: FloatType | None = None) -> None:
    """Write the network as OpenVINO IR in float32, or in 16 bits."""
    import openvino
    import torch
    from optimum.intel import OVModelForCausalLM
    from transformers import AutoModelForCausalLM

    source = hf_folder
    more: dict[str, Any] = {}
    if type is FloatType.BF16:
        # optimum keeps bfloat16 weights only where they come so.
        source = out / "bf16"
        more = {"dtype": torch.bfloat16}
        network: Any = AutoModelForCausalLM.from_pretrained(
            hf_folder, dtype=torch.bfloat16, local_files_only=True
        )
        network.save_pretrained(source)
        del network
    try:
        model: Any = OVModelForCausalLM.from_pretrained(
            str(source),
            export=True,
            compile=False,
            load_in_8bit=False,
            local_files_only=True,
            **more,
        )
        openvino.save_model(model.model, str(out / MODEL), compress_to_fp16=type is FloatType.FP16)
        model.config.save_pretrained(out)
        shutil.rmtree(out / "bf16", ignore_errors=True)
    except Exception as error:  # The libraries raise errors of many kinds here.
        raise CheckpointError(
            f"{hf_folder} cannot be exported to OpenVINO in {type or 'float32'}: "
            f"{last_line(error)}; leave this lever out"
        ) from error


def quantise(float_folder: Path, how: Quantise, out: Path, calibration: Ids) -> None:
    """Write the float IR of `float_folder`, quantised. calibration: [rows, tokens] of text, which
    only methods guided by it read, and layers chosen by ratio."""
    import nncf
    import openvino

    nncf.set_log_level(logging.ERROR)
    model: Any = openvino.Core().read_model(str(float_folder / MODEL))
    try:
        smaller: Any = nncf.compress_weights(model, **_options(how, calibration))
        openvino.save_model(smaller, str(out / MODEL), compress_to_fp16=False)
    except Exception as error:  # As above.
        raise CheckpointError(
            f"NNCF cannot make {how} of {float_folder}: {last_line(error)}; leave this lever out"
        ) from error


def _options(how: Quantise, calibration: Ids) -> dict[str, Any]:
    import nncf

    modes = {
        IntType.INT8: nncf.CompressWeightsMode.INT8_ASYM,
        IntType.INT8_SYM: nncf.CompressWeightsMode.INT8_SYM,
        IntType.INT4: nncf.CompressWeightsMode.INT4_ASYM,
        IntType.INT4_SYM: nncf.CompressWeightsMode.INT4_SYM,
    }
    options: dict[str, Any] = {"mode": modes[how.type]}
    if not how.in_four_bits:
        return options
    options |= {"group_size": how.group_size, "ratio": how.ratio}
    if how.calibration is not None:
        rows = calibration[:CALIBRATION_ROWS]
        options |= {
            "dataset": nncf.Dataset([feed_of(row[None, :]) for row in rows]),
            "subset_size": len(rows),
        }
    if how.calibration is Calibration.AWQ:
        options |= {"awq": True, "scale_estimation": True}
        options["advanced_parameters"] = nncf.AdvancedCompressionParameters(
            awq_params=nncf.quantization.advanced_parameters.AdvancedAWQParameters(steps=AWQ_STEPS)
        )
    elif how.calibration is Calibration.GPTQ:
        options["gptq"] = True
    return options
