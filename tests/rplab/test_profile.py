"""Profiles: every shipped one loads; wrong keys and values are told with file, key and remedy."""

import pytest

from rplab.errors import ConfigError
from rplab.profile import PROFILES, load_profile


def write(tmp_path, text):
    path = tmp_path / "mine.yaml"
    path.write_text(text, encoding="utf-8")
    return str(path)


@pytest.mark.parametrize("path", sorted(PROFILES.glob("*.yaml")), ids=lambda path: path.stem)
def test_every_shipped_profile_loads(path):
    profile = load_profile(path.stem)

    assert profile.name == path.stem
    assert profile.card.age >= 20


def test_override_by_dotted_path_changes_one_value():
    profile = load_profile("smoke", ["data.dialogues.turns=5", "llm.sft1.optimiser.learning_rate=1e-5", "card=saya"])

    assert profile.data.dialogues.turns == 5
    assert profile.llm.sft1.optimiser.learning_rate == 1e-5
    assert profile.data.scenarios == load_profile("smoke").data.scenarios


@pytest.mark.parametrize(
    ("key", "near"),
    [
        ("data.dialoges.turns=3", "dialogues"),
        ("data.dialogues.turn=3", "turns"),
        ("lmm.base.seed=1", "llm"),
        ("llm.sft1.learnin_rate=1", "optimiser.learning_rate"),
    ],
)
def test_unknown_key_names_file_key_and_nearest_valid_key(key, near):
    with pytest.raises(ConfigError, match=rf"smoke\.yaml: unknown key .*did you mean '{near}'") as caught:
        load_profile("smoke", [key])

    assert caught.value.exit_code == 2


def test_wrong_type_names_the_key_and_what_was_given(tmp_path):
    with pytest.raises(ConfigError, match=r"mine\.yaml: data\.dialogues\.turns: .*'many'"):
        load_profile(write(tmp_path, "data: {dialogues: {turns: many}}"))


def test_missing_profile_lists_the_shipped_ones():
    with pytest.raises(ConfigError, match=r"Did you mean 'smoke'.*Shipped profiles: .*smoke"):
        load_profile("smok")


def test_card_beside_the_profile_is_found_and_its_errors_are_told(tmp_path):
    (tmp_path / "card.yaml").write_text("name: 하나\n", encoding="utf-8")

    with pytest.raises(ConfigError, match=r"card\.yaml: .*age is missing"):
        load_profile(write(tmp_path, "card: card.yaml"))


def test_seed_pack_and_card_reach_the_stages_unless_the_section_sets_them(tmp_path):
    profile = load_profile(write(tmp_path, "seed: 7\ndata: {scenarios: {seed: 9}}"))

    assert profile.with_shared(profile.data.singleturn).seed == 7
    assert profile.with_shared(profile.data.scenarios).seed == 9
    assert profile.with_shared(profile.data.singleturn).card == profile.card


@pytest.mark.parametrize("override", ["data", "=3", "seed.x=1"])
def test_malformed_override_says_how_to_write_it(override):
    with pytest.raises(ConfigError, match="--set"):
        load_profile("smoke", ["seed=3", override])
