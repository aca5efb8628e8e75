"""Whole runs in virtual time, drawn from one number: what can go wrong, in whatever order, and what must hold."""
