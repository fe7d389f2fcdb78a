"""Readers of facts: what models, devices and prices are, from the files that say so."""

from meted.live.facts.config_json import architecture_from_config, weights_from_config
from meted.live.facts.errors import FactError
from meted.live.facts.facts_file import FactsFile, read_facts_file
from meted.live.facts.gguf_header import GGUFFacts, read_gguf_facts
from meted.live.facts.resolving import ModelFacts, facts_of_checkpoint, resolve_model

__all__ = [
    "FactError",
    "FactsFile",
    "GGUFFacts",
    "ModelFacts",
    "architecture_from_config",
    "facts_of_checkpoint",
    "read_facts_file",
    "read_gguf_facts",
    "resolve_model",
    "weights_from_config",
]
