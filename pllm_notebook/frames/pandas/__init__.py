"""The accessors of pandas: rows in, columns out."""
