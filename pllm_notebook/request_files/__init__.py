"""JSONL files of requests: read, sent in chunks, and written as JSONL results."""
