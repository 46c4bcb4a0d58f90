"""The figures of a run, in one style."""
