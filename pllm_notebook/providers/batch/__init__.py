"""What the providers' batch APIs share: requests over SDK clients, JSONL, errors.

Batch APIs use the SDK client of live calls, so account, key and address are the same. Nothing is retried here or
by an SDK: repeating a creation makes a second job, which costs as much as the first.
"""
