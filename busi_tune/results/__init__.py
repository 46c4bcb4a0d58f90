"""Tables and figures of a run, from the files of its directory alone."""
