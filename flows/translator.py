"""The Korean-Japanese translator. `python flows/translator.py` or the deployment `rp-translator`."""

# The defaults must be in place before Prefect is imported.
import tasks.defaults  # noqa: F401  # isort: skip  # pyright: ignore[reportUnusedImport]

import sys

from prefect import flow

from tasks.pipeline import PipelineRun
from tasks.script import run_as_script


@flow(name="rp-translator", flow_run_name="translator-{profile}")
def translator(profile: str = "smoke", overrides: list[str] = [], store: str = "store", force: list[str] = []) -> dict[str, str]:  # noqa: B006 - the UI's form needs the list
    """Train the translator and measure it on pairs that it has not seen; what it needs comes from the store, or is made first.

    Args:
        profile: Name of a shipped profile (smoke, ...) or path of a YAML file.
        overrides: Changes of single values, for example llm.translator.learning_rate=2e-4
        store: Directory of the artefacts.
        force: Stages that run even when the store has them.
    """
    run = PipelineRun(profile, overrides, store, force)
    run.make("dataset", "base")  # pairs, and the model that training starts from
    run.make("translator")  # supervised, on translations only
    run.make("translator_eval")  # chrF++ on held-out pairs, with a gate
    return run.finish()


if __name__ == "__main__":
    sys.exit(run_as_script(translator))
