"""Providers as data, and one that is added from outside."""
