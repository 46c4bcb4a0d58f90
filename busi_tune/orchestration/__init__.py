"""The only part that knows Ray: a thin layer that runs any plan's trainings on a cluster.

Ray reads the settings below when it is imported or started; a user's own setting wins.
"""

import os
import sys
from pathlib import Path

# `ray start` asks for the token wherever there is one, so whoever joins must show it. Where Ray is
# imported already it has read its mode, and another one would part it from the cluster it starts.
if "ray" not in sys.modules and (Path.home() / ".ray" / "auth_token").exists():
    os.environ.setdefault("RAY_AUTH_MODE", "token")
# Ray gives its dashboard 60 s to start, too few on a busy machine.
os.environ.setdefault("RAY_DASHBOARD_STARTUP_TIMEOUT_S", "120")
# At Ray's own niceness of 15 a busy machine starves the trainings.
os.environ.setdefault("RAY_worker_niceness", "0")
# A worker that was given no GPU sees none.
os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "1")
# The run directory has the tables; Tune's own loggers would write each epoch three times more.
os.environ.setdefault("TUNE_DISABLE_AUTO_CALLBACK_LOGGERS", "1")
# Tune prints nothing of its own: the live table is this project's.
os.environ.setdefault("RAY_AIR_NEW_OUTPUT", "0")
# An interrupt ends the run at once: everything needed to go on is on disk already.
os.environ.setdefault("TUNE_DISABLE_SIGINT_HANDLER", "1")
