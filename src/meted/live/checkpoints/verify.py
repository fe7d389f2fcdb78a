"""A converted checkpoint is tried once before it is registered: it must load and answer."""
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false
# pyright: reportUnknownArgumentType=false

from pathlib import Path
from typing import Any

from meted.live.checkpoints.checkpoint import MODEL, TOKENIZER_GGUF, CheckpointError
from meted.live.checkpoints.facts import last_line


def verify_generation(path: Path, *, source: Path, gguf: bool = False) -> None:
    """Load a converted folder, or a GGUF file (whose IR is then written beside it), as the engine
    will, and generate one token. Raises CheckpointError, naming its source, if that fails."""
    import openvino_genai as genai

    config = genai.SchedulerConfig()
    config.num_kv_blocks = 16
    config.dynamic_split_fuse = True
    folder = path.parent if gguf else path
    keys = folder / TOKENIZER_GGUF
    try:
        tokenizer = genai.Tokenizer(str(keys if keys.exists() else folder))
        more: dict[str, Any] = {"enable_save_ov_model": True} if gguf else {}
        pipeline: Any = genai.ContinuousBatchingPipeline(
            str(path), tokenizer, config, "CPU", **more
        )
        wanted = genai.GenerationConfig()
        wanted.max_new_tokens = 1
        wanted.ignore_eos = True
        ids = tokenizer.encode("One, two,", add_special_tokens=False).input_ids
        handle = pipeline.add_request(0, ids, wanted)
        pipeline.step()
        answered = bool(handle.can_read())
    except Exception as error:  # The engine raises errors of many kinds, from deep inside.
        raise CheckpointError(
            f"{source} cannot be loaded by the engine: {last_line(error)}; take the model in "
            "another format (GGUF or Hugging Face folder)"
        ) from error
    if not answered:
        raise CheckpointError(f"{source} loads but generates nothing; take another model")


def verify_embedding(folder: Path, *, source: Path) -> None:
    """Compile a converted encoder. Raises CheckpointError if that fails."""
    import openvino
    import openvino_genai as genai

    try:
        openvino.Core().compile_model(str(folder / MODEL), "CPU")
        genai.Tokenizer(str(folder)).encode(["One, two,"])
    except Exception as error:  # As above.
        raise CheckpointError(
            f"{source} cannot be loaded by the engine: {last_line(error)}; take another model"
        ) from error
