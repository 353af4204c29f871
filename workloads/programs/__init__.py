"""Real programs: their inputs, how they are run, and how their output is checked."""
