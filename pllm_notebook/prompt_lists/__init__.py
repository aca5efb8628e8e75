"""Lists of prompts that differ in everything, and files of requests: many models and providers as one run."""
