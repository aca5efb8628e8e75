"""Runs by batch job: the dispatcher that gathers calls, and the service that drives their jobs."""
