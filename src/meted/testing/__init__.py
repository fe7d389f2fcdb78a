"""Public fakes and conformance checks, for tests here and for whoever writes an engine."""
