"""Runs by batch job: the lane that gathers calls, the office that drives jobs, and what a person may do with them."""
