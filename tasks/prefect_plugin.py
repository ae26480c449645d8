"""Start-up plugin for Prefect: makes `prefect deployment run rp-full-pipeline` mean `.../rp-full-pipeline`.

Prefect wants `<flow>/<deployment>`; ours carry the same name, so the short form can only mean one thing. The hook is
public (`prefect.plugins`), the method that it wraps is not: when a release moves it, the plugin says so at debug
level, changes nothing, and the slash form still works. Prefect loads this when `plugins.enabled` is set, which the
project's `pyproject.toml` does for commands run from the project root.

It also lets Prefect's private server of a single run (no `PREFECT_API_URL`) end when that run is killed; Prefect
itself leaves such a server running for ever.
"""

from __future__ import annotations

import functools
import logging
import os
import signal
import threading
import time
from collections.abc import Callable
from typing import Any

from prefect.plugins import HookContext, SetupResult, register_hook

_PARENT_CHECK_INTERVAL_S = 1.0


@register_hook
def setup_environment(*, ctx: HookContext) -> SetupResult | None:
    """Wrap the look-up of deployments; in a private server, watch the run that it belongs to."""
    logger = ctx.logger_factory("rplab.prefect_plugin")
    if os.environ.get("PREFECT__SERVER_EPHEMERAL") == "1":
        _end_with_parent()
    else:
        _accept_short_names(logger)
    return None


def expand_name(name: str) -> str:
    """Return `X/X` for `X`; a name with a slash stays as it is."""
    return name if "/" in name or not name else f"{name}/{name}"


def _accept_short_names(logger: logging.Logger) -> None:
    try:
        from prefect.client.orchestration._deployments import client
    except ImportError as error:
        logger.debug("deployments need their full name <flow>/<deployment>: %s", error)
        return
    for class_name in ("DeploymentClient", "DeploymentAsyncClient"):
        owner = getattr(client, class_name, None)
        method = getattr(owner, "read_deployment_by_name", None)
        if owner is None or method is None:
            logger.debug("deployments need their full name <flow>/<deployment>: no %s.read_deployment_by_name", class_name)
        elif not hasattr(method, "__wrapped__"):
            owner.read_deployment_by_name = _expanding(method)


def _expanding(method: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(method)
    def read_deployment_by_name(self: Any, name: str, *args: Any, **kwargs: Any) -> Any:
        return method(self, expand_name(name), *args, **kwargs)

    return read_deployment_by_name


def _end_with_parent() -> None:
    parent = os.getppid()

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(_PARENT_CHECK_INTERVAL_S)
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=watch, daemon=True, name="end-with-parent").start()
