"""Settings that this project wants from Prefect, as defaults: what the user set wins.

Import this before `prefect`, which reads its settings once. `pyproject.toml` says the same where it can, but is read
only when the working directory is the project root.
"""

from __future__ import annotations

import os

_DEFAULTS = {
    "DO_NOT_TRACK": "1",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": "120",  # its 20 s are too few on a busy machine with a new database
    "PREFECT_RESULTS_DEFAULT_SERIALIZER": "json",  # the default, pickle, runs code when it is loaded
    "PREFECT_LOGGING_EXTRA_LOGGERS": "rplab",
    "PREFECT_FLOWS_HEARTBEAT_FREQUENCY": "30",  # the automation of deployments/bootstrap.py takes two silent minutes for a death
}

for _name, _value in _DEFAULTS.items():
    os.environ.setdefault(_name, _value)

if os.environ.get("PREFECT_API_URL") == "":
    del os.environ["PREFECT_API_URL"]  # an empty address breaks Prefect's events with thousands of tracebacks
