"""Which engine runs a deployment, and which settings no engine of its task can run."""

from meted.domain.deployment import Task
from meted.domain.engine_settings import EngineSettings

OPENVINO = "openvino"
LLAMACPP = "llamacpp"
EMBEDDING = "embedding"
BUILT_IN = {OPENVINO: Task.GENERATE, LLAMACPP: Task.GENERATE, EMBEDDING: Task.EMBED}
"""The engines that come with Meted, and what each is for."""

LLAMACPP_LEAST_CHUNK = 64
OF_TASK = {Task.GENERATE: OPENVINO, Task.EMBED: EMBEDDING}


def engine_for(settings: EngineSettings, task: Task) -> str:
    """The engine's name or factory."""
    return settings.engine or OF_TASK[task]


def check_settings(settings: EngineSettings, *, task: Task) -> None:
    """Raises ValueError, naming the key, for what no engine of this task can run."""
    engine = engine_for(settings, task)
    if settings.brings_its_weights:
        return
    if engine not in BUILT_IN:
        raise ValueError(
            f"engine is {engine!r}, expected {', '.join(BUILT_IN)} or a factory as module:Name"
        )
    if BUILT_IN[engine] is not task:
        raise ValueError(
            f"engine is {engine!r}, which is for {BUILT_IN[engine]}, and the checkpoint is for "
            f"{task}; leave engine out"
        )
    if task is Task.EMBED:
        _check_embedding(settings)
    elif engine == LLAMACPP and settings.chunk_tokens < LLAMACPP_LEAST_CHUNK:
        raise ValueError(
            f"chunk_tokens is {settings.chunk_tokens}, but the engine llamacpp takes "
            f"{LLAMACPP_LEAST_CHUNK} or more"
        )
    elif settings.speculation is not None and settings.chunk_tokens <= settings.speculation.tokens:
        raise ValueError(
            f"chunk_tokens is {settings.chunk_tokens} and speculation.tokens "
            f"{settings.speculation.tokens}: a step must hold these and one more; raise "
            "chunk_tokens or lower speculation.tokens"
        )


def _check_embedding(settings: EngineSettings) -> None:
    allowed = EngineSettings(engine=settings.engine, threads=settings.threads)
    for key in ("chunk_tokens", "cache", "cache_gib", "prefix_cache", "speculation"):
        value = getattr(settings, key)
        if value != getattr(allowed, key):
            raise ValueError(
                f"{key} is {value!r}, but an encoder keeps no keys and values and generates "
                "nothing; of an embedding deployment only engine, threads, context_tokens and "
                "kept_answers can be set"
            )
