"""The data half: from a character card to data sets. `python flows/data.py` or the deployment `rp-data`."""

# The defaults must be in place before Prefect is imported.
import tasks.defaults  # noqa: F401  # isort: skip  # pyright: ignore[reportUnusedImport]

import sys
from typing import Literal

from prefect import flow

from tasks.pipeline import PipelineRun
from tasks.script import run_as_script


@flow(name="rp-data", flow_run_name="data-{profile}")
def data(profile: str = "smoke", overrides: list[str] = [], store: str = "store", force: list[str] = []) -> dict[str, str]:  # noqa: B006 - the UI's form needs the list
    """Generate single turns and dialogues, normalise them, split them and cut the views for training.

    Args:
        profile: Name of a shipped profile (smoke, ...) or path of a YAML file.
        overrides: Changes of single values, for example data.dialogues.turns=4
        store: Directory of the artefacts.
        force: Stages that run even when the store has them.
    """
    run = PipelineRun(profile, overrides, store, force)
    run.make("singleturn", "normalise")  # one request, one reply: rows with one fixed shape
    run.make("scenarios", "dialogues")  # a scene, played turn by turn by the pack's state machine
    run.make("dataset")  # split by scenario, then one view for each use
    return run.finish()


@flow(name="rp-data-shard", flow_run_name="data-{profile}-{stage}-{shard}")
def data_shard(
    profile: str = "smoke",
    stage: Literal["singleturn", "scenarios", "dialogues"] = "singleturn",
    shard: str = "1/2",
    overrides: list[str] = [],  # noqa: B006 - the UI's form needs the list
    store: str = "store",
) -> dict[str, str]:
    """Make one part of a generation stage, on any worker that sees the store; `rp-data` with data.shards=N takes the parts over.

    Args:
        profile: Name of a shipped profile (smoke, ...) or path of a YAML file.
        stage: Which stage.
        shard: Which part, `2/4` = the second of four.
        overrides: Changes of single values, for example data.dialogues.turns=4
        store: Directory of the artefacts, the same for all workers.
    """
    run = PipelineRun(profile, overrides, store, [])
    run.make_part(stage, shard)
    return run.finish()


if __name__ == "__main__":
    sys.exit(run_as_script(data))
