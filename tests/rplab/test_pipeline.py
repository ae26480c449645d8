"""The wiring: order, keys, what depends on what."""

from rplab.artifact import Artifact
from rplab.pipeline import NODES, dependants, make_request, needed_by
from rplab.profile import load_profile


def keys(profile, tmp_path):
    """The key of every stage when each stage's content is a pure function of its key."""
    made: dict[str, Artifact] = {}
    for node in NODES:
        request = make_request(node, profile, made, tmp_path)
        made[node.name] = Artifact(stage=node.name, key=request.key, path=tmp_path, digest=request.key)
    return {name: artifact.key for name, artifact in made.items()}


def changed(tmp_path, *overrides):
    before, after = keys(load_profile("smoke"), tmp_path), keys(load_profile("smoke", overrides), tmp_path)
    return {name for name in before if before[name] != after[name]}


def test_every_stage_comes_after_what_it_is_made_from():
    seen = set()
    for node in NODES:
        assert set(node.inputs.values()) <= seen, node.name
        seen.add(node.name)


def test_every_entry_exists_and_heavy_modules_load_only_then():
    for node in NODES:
        assert callable(node.stage.load())


def test_one_changed_value_changes_exactly_what_depends_on_it(tmp_path):
    assert changed(tmp_path, "llm.sft2.optimiser.learning_rate=1e-6") == dependants("sft2")
    assert changed(tmp_path, "llm.translator.optimiser.learning_rate=1e-6") == dependants("translator")
    assert changed(tmp_path, "data.dialogues.turns=6") == dependants("dialogues")
    assert changed(tmp_path, "play.max_history_turns=3") == {"character"}
    assert changed(tmp_path, "machine.threads=2") == set()


def test_needed_by_is_the_way_to_a_stage_and_nothing_else():
    assert [node.name for node in needed_by("dialogues")] == ["scenarios", "dialogues"]
    assert {node.name for node in needed_by("character")} == {node.name for node in NODES}


def test_dependants_of_the_last_stage_is_itself():
    assert dependants("character") == {"character"}


def test_another_model_in_the_same_source_folder_is_another_base(tmp_path):
    source = tmp_path / "model"
    source.mkdir()
    (source / "model.safetensors").write_bytes(b"one")
    profile = load_profile("smoke", [f"llm.base.source={source}"])
    before = keys(profile, tmp_path)

    (source / "model.safetensors").write_bytes(b"other")
    after = keys(profile, tmp_path)

    assert {name for name in before if before[name] != after[name]} == dependants("base")
