"""The role-play model: SFT, GRPO, evaluation. `python flows/rp_model.py` or the deployment `rp-model`."""

# The defaults must be in place before Prefect is imported.
import tasks.defaults  # noqa: F401  # isort: skip  # pyright: ignore[reportUnusedImport]

import sys

from prefect import flow

from tasks.pipeline import PipelineRun
from tasks.script import run_as_script


@flow(name="rp-model", flow_run_name="model-{profile}")
def rp_model(profile: str = "smoke", overrides: list[str] = [], store: str = "store", force: list[str] = []) -> dict[str, str]:  # noqa: B006 - the UI's form needs the list
    """Train and evaluate the role-play model; the data sets come from the store, or are made first.

    Args:
        profile: Name of a shipped profile (smoke, ...) or path of a YAML file.
        overrides: Changes of single values, for example llm.sft1.learning_rate=2e-4
        store: Directory of the artefacts.
        force: Stages that run even when the store has them.
    """
    run = PipelineRun(profile, overrides, store, force)
    run.make("dataset", "base")  # what training starts from
    run.make("sft1", "sft2", "merge")  # learn the format, then the long scenes; fold the adapter in
    run.make("grpo", "grpo_merge")  # learn from rewards
    run.make("evaluate")  # base against SFT against GRPO
    return run.finish()


if __name__ == "__main__":
    sys.exit(run_as_script(rp_model))
