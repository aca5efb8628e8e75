"""The providers' batch APIs, one class each: files and inline requests out, jobs watched, results streamed in.

It works through the SDK client that live calls use, so that account, key and address are the same. Nothing is
retried here or by an SDK: a creation that was repeated makes a second job, which is paid for like the first.
"""
