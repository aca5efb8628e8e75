"""Rows in, columns out: the accessors, and what of them no dataframe library matters to."""
