"""What a person sees in a notebook or a terminal: magics, completions and progress."""
