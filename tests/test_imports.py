"""Start-up stays light: what needs no torch loads none, and play needs no Prefect."""

import subprocess
import sys

import pytest

HEAVY = ("torch", "transformers", "trl", "peft", "bitsandbytes", "datasets")


def loaded_by(statement):
    """The top-level packages that are loaded after a statement in a fresh interpreter."""
    code = f"{statement}\nimport sys\nprint(*sorted({{name.partition('.')[0] for name in sys.modules}}))"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(out.stdout.split())


@pytest.mark.parametrize(
    "statement",
    [
        "import rplab",
        "import rplab.cli.main; rplab.cli.main.build_parser()",
        "import rplab.pipeline, rplab.profile; rplab.profile.load_profile('smoke')",
        "import rplab.dialogue.generate, rplab.dialogue.singleturn, rplab.dataset.build",
        "import rplab.llm.rewards, rplab.llm.publish",
        "import rplab.play.session",
        "import rplab.tts.openjtalk",
        "import tasks.stage, flows.full",
    ],
)
def test_light_modules_load_no_training_library(statement):
    assert not loaded_by(statement) & set(HEAVY)


def test_command_line_start_loads_neither_prefect_nor_kiwi():
    assert not loaded_by("import rplab.cli.main; rplab.cli.main.build_parser()") & {"prefect", "kiwipiepy", "pyarrow", "numpy", "pydantic"}


def test_play_imports_no_prefect():
    assert "prefect" not in loaded_by("import flows.play, rplab.play.session, rplab.cli.play")
