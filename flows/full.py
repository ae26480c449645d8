"""The whole story: from a character card to a character that answers in Korean and speaks Japanese.

Run it on a worker (`prefect deployment run rp-full-pipeline`) or here (`python flows/full.py --profile smoke`).
"""

# The defaults must be in place before Prefect is imported.
import tasks.defaults  # noqa: F401  # isort: skip  # pyright: ignore[reportUnusedImport]

import sys

from prefect import flow

from tasks.pipeline import PipelineRun
from tasks.script import run_as_script


@flow(name="rp-full-pipeline", flow_run_name="full-{profile}")
def full(profile: str = "smoke", overrides: list[str] = [], store: str = "store", force: list[str] = []) -> dict[str, str]:  # noqa: B006 - the UI's form needs the list
    """Make a character: data, role-play model, translator, evaluation; refuse to publish it when a gate fails.

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

    run.make("base")  # the model that everything starts from
    run.make("sft1", "sft2", "merge")  # learn the format, then the long scenes; fold the adapter in
    run.make("grpo", "grpo_merge")  # learn from rewards
    run.make("evaluate")  # base against SFT against GRPO

    run.make("translator", "translator_eval")  # Korean speech to Japanese
    if run.profile.voice is not None:
        run.make("voice_corpus", "voice_preprocess", "voice_train", "voice_export")  # recordings to a voice in ONNX
    run.make("character")  # what play loads; only when every gate passed
    return run.finish()


if __name__ == "__main__":
    sys.exit(run_as_script(full))
