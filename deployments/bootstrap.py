"""Prepares a Prefect server for this project. Run it as often as you like: `python deployments/bootstrap.py`.

It waits for the server at `PREFECT_API_URL` (or at Prefect's usual local address), and sees to it that there is

- the process work pool `rp-lab`, from which a worker on the GPU machine takes runs;
- the limit `gpu:<host>` = 1, which training stages hold in turn (run this on each GPU machine);
- the automation that marks a run as Crashed when its process is gone. A self-hosted server does not notice that by
  itself, and only a run that has ended can be retried.
"""

# The defaults must be in place before Prefect is imported.
import tasks.defaults  # noqa: F401  # isort: skip  # pyright: ignore[reportUnusedImport]

import argparse
import sys
import time
from datetime import timedelta

import httpx
from prefect import get_client
from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.actions import WorkPoolCreate
from prefect.client.schemas.objects import StateType
from prefect.events.actions import ChangeFlowRunState
from prefect.events.schemas.automations import AutomationCore, EventTrigger, Posture
from prefect.events.schemas.events import ResourceSpecification
from prefect.exceptions import ObjectNotFound
from prefect.settings import PREFECT_API_URL, get_current_settings, temporary_settings
from prefect.workers.process import ProcessWorker

from rplab.l10n import tr
from tasks.stage import gpu_limit_name

POOL = "rp-lab"
AUTOMATION = "rp-lab: crash runs whose process is gone"
LOCAL_API = "http://127.0.0.1:4200/api"
FLOWS = ("rp-full-pipeline", "rp-data", "rp-data-shard", "rp-model", "rp-translator", "rp-voice")
HEARTBEAT_WINDOW = timedelta(seconds=120)
"""Four heartbeats of 30 s (set in prefect.yaml): fewer than three have been seen to crash healthy runs."""

_HEARTBEAT = "prefect.flow-run.heartbeat"
_ENDS = ("Completed", "Failed", "Crashed", "Cancelled", "Cancelling", "Paused", "Suspended", "AwaitingRetry")


def main() -> int:
    """Prepare the server and say what was done; exit code 1 when no server answers."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--wait", type=float, default=60.0, metavar="S", help="how long to wait for the server (default: 60)")
    arguments = parser.parse_args()
    configured = get_current_settings().api.url
    address = configured or LOCAL_API
    if not wait_for_server(address, arguments.wait):
        print(f"bootstrap: no Prefect server answers at {address}. Start one with `prefect server start`", file=sys.stderr)
        return 1
    with temporary_settings(updates={PREFECT_API_URL: address}), get_client(sync_client=True) as client:
        print(f"server      {address}")
        print(f"work pool   {POOL}: {ensure_pool(client)}")
        print(f"limit       {gpu_limit_name()} = 1: {ensure_gpu_limit(client)}")
        print(f"automation  {AUTOMATION}: {ensure_zombie_automation(client)}")
    if not configured:
        print(tr("다음 명령들이 이 서버를 쓰도록:", "so that the next commands use this server:"), f"export PREFECT_API_URL={address}")
    print(tr("다음:", "next:"), f"prefect --no-prompt deploy --all && prefect worker start --pool {POOL}")
    return 0


def wait_for_server(address: str, limit_s: float) -> bool:
    """Say whether the server at an API address answers within `limit_s` seconds."""
    deadline = time.monotonic() + limit_s
    while True:
        try:
            if httpx.get(f"{address}/health", timeout=5).is_success:
                return True
        except httpx.TransportError:
            pass
        if time.monotonic() > deadline:
            return False
        time.sleep(0.5)


def ensure_pool(client: SyncPrefectClient) -> str:
    """Create the work pool when it is missing; one that is there keeps its settings."""
    try:
        client.read_work_pool(POOL)
    except ObjectNotFound:
        template = ProcessWorker.get_default_base_job_template()
        client.create_work_pool(
            WorkPoolCreate(name=POOL, type="process", base_job_template=template, description="Runs RP Lab's flows on this machine.")
        )
        return "created"
    return "is there"


def ensure_gpu_limit(client: SyncPrefectClient) -> str:
    """Create this machine's accelerator limit, or set it to one again."""
    name = gpu_limit_name()
    try:
        before = client.read_global_concurrency_limit_by_name(name).limit
    except ObjectNotFound:
        before = None
    client.upsert_global_concurrency_limit_by_name(name, 1)
    return "created" if before is None else "is there" if before == 1 else f"was {before}"


def ensure_zombie_automation(client: SyncPrefectClient) -> str:
    """Create the automation, or bring it up to date."""
    found = client.read_automations_by_name(AUTOMATION)
    if not found:
        client.create_automation(zombie_automation())
        return "created"
    client.update_automation(found[0].id, zombie_automation())
    return "is there"


def zombie_automation() -> AutomationCore:
    """Describe the automation: no sign of life within the window after a heartbeat of one of our flows -> Crashed."""
    return AutomationCore(
        name=AUTOMATION,
        description="A flow run that stops sending heartbeats without having ended is marked Crashed, so that it can be retried.",
        trigger=EventTrigger(
            after={_HEARTBEAT},
            expect={_HEARTBEAT, *(f"prefect.flow-run.{name}" for name in _ENDS)},
            match=ResourceSpecification({"prefect.resource.id": ["prefect.flow-run.*"]}),
            match_related=ResourceSpecification({"prefect.resource.role": "flow", "prefect.resource.name": list(FLOWS)}),
            for_each={"prefect.resource.id"},
            posture=Posture.Proactive,
            threshold=1,
            within=HEARTBEAT_WINDOW,
        ),
        actions=[
            ChangeFlowRunState(
                name=None,
                state=StateType.CRASHED,
                message="No heartbeat: the process of this run is gone. Retry continues where it stopped.",
                force=False,
            )
        ],
    )


if __name__ == "__main__":
    sys.exit(main())
