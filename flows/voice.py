"""The Japanese voice. `python flows/voice.py` or the deployment `rp-voice`."""

# The defaults must be in place before Prefect is imported.
import tasks.defaults  # noqa: F401  # isort: skip  # pyright: ignore[reportUnusedImport]

import sys

from prefect import flow

from tasks.pipeline import PipelineRun
from tasks.script import run_as_script


@flow(name="rp-voice", flow_run_name="voice-{profile}")
def voice(profile: str = "smoke", overrides: list[str] = [], store: str = "store", force: list[str] = []) -> dict[str, str]:  # noqa: B006 - the UI's form needs the list
    """Train a Japanese voice from recordings and export it to ONNX.

    Args:
        profile: Name of a shipped profile with a section `voice` (smoke, ...) or path of a YAML file.
        overrides: Changes of single values, for example voice.corpus.recordings=/data/saya
        store: Directory of the artefacts.
        force: Stages that run even when the store has them.
    """
    run = PipelineRun(profile, overrides, store, force)
    run.make("voice_corpus", "voice_preprocess")  # recordings become clips, readings and style vectors
    run.make("voice_train")  # continue a base, or start from nothing
    run.make("voice_export")  # a folder that speaks without torch
    return run.finish()


if __name__ == "__main__":
    sys.exit(run_as_script(voice))
