"""Training jobs as clusters recorded them, read from the files that people share."""

from meted.live.job_traces.errors import JobTraceError
from meted.live.job_traces.gavel import GavelThroughputs, read_gavel, read_throughputs
from meted.live.job_traces.philly import PhillyPart, read_philly
from meted.live.job_traces.traced_job import TracedJob

__all__ = [
    "GavelThroughputs",
    "JobTraceError",
    "PhillyPart",
    "TracedJob",
    "read_gavel",
    "read_philly",
    "read_throughputs",
]
