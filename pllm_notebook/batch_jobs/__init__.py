"""Runs by batch job: the dispatcher that gathers calls, the service that drives jobs, and what a person may do."""
