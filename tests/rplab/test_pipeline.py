"""The wiring: order, keys, what depends on what."""

import pytest

from rplab.artifact import Artifact
from rplab.errors import ConfigError
from rplab.pipeline import NODES, dependants, find_node, make_request, needed_by, nodes_of
from rplab.profile import load_profile


def keys(profile, tmp_path):
    """The key of every stage when each stage's content is a pure function of its key."""
    made: dict[str, Artifact] = {}
    for node in nodes_of(profile):
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
    assert changed(tmp_path, "data.dialogues.turns=6") == dependants("dialogues") - {"judge"}
    assert changed(tmp_path, "data.shards=4") == set()
    assert changed(tmp_path, "play.max_history_turns=3") == {"character"}
    assert changed(tmp_path, "machine.threads=2") == set()


def test_a_judge_stands_between_dialogues_and_data_only_when_the_profile_has_one(tmp_path):
    judge = ("data.judge.backend.kind=openai", "data.judge.backend.model=m")
    without, judged = load_profile("smoke"), load_profile("smoke", judge)
    assert "judge" not in {node.name for node in nodes_of(without)}
    before, after = keys(without, tmp_path), keys(judged, tmp_path)
    assert {name for name in before if before[name] != after[name]} == dependants("dataset")
    assert set(after) - set(before) == {"judge"}
    assert keys(load_profile("smoke", (*judge, "data.judge.min_score=90")), tmp_path)["judge"] != after["judge"]
    assert keys(load_profile("smoke", (*judge, "data.judge.backend.budget_usd=3")), tmp_path) == after


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


def test_a_profile_without_a_voice_has_no_voice_stages(tmp_path):
    profile = load_profile("smoke", ["voice=null"])

    assert not [node.name for node in nodes_of(profile) if node.name.startswith("voice")]
    assert "voice_export" not in [node.name for node in needed_by("character", profile)]
    with pytest.raises(ConfigError, match="Add the section `voice`"):
        make_request(find_node("voice_corpus"), profile, {}, tmp_path)


def test_other_recordings_are_another_voice(tmp_path):
    recordings = tmp_path / "mine"
    recordings.mkdir()
    (recordings / "transcripts.list").write_text("a.wav|me|JP|\u3042\n")
    profile = load_profile("smoke", [f"voice.corpus.recordings={recordings}"])
    before = keys(profile, tmp_path)

    (recordings / "b.wav").write_bytes(b"RIFF")

    after = keys(profile, tmp_path)
    assert {name for name in before if before[name] != after[name]} == dependants("voice_corpus")
