"""When a session sends its calls: at once, one at a time, in batch jobs, or in small groups."""
