"""Training jobs: `spec` is for everyone and light; the rest runs in a job's own worker process."""
