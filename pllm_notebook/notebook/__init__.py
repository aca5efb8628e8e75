"""User interface in a notebook or terminal: magics, completions and progress."""
