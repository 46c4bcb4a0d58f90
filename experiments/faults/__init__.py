"""Runs that are broken on purpose, again and again, and what became of them."""

import os

# Their clusters ask for a token. Ray reads this once, when a script imports it.
os.environ["RAY_AUTH_MODE"] = "token"
