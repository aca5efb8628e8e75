"""Lists of prompts for any mix of models and providers, sent as one run."""
