"""The tables of a run, as CSV, Markdown and LaTeX."""
