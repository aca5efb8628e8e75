"""What a person sees of a run: its state at one moment as plain data, and what changed since."""
