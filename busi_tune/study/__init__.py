"""The search's state, an Optuna study in SQLite that no kill can put in doubt; no Ray.

Every decision is a function of what the study holds, so a search that goes on after a kill decides
as if nothing had happened: trials found RUNNING go on under their own number before new ones are
asked, samplers are made anew for each trial from the seed and its number, and pruners look at
intermediate values only.
"""
