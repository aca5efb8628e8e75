"""Small models in this process."""
