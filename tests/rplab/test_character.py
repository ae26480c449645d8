"""Cards: typed, adult, and clear about what is wrong."""

import pytest
import yaml

from rplab.character import BUNDLED, Register, load_card
from rplab.errors import ConfigError


def write(tmp_path, **changes):
    data = yaml.safe_load((BUNDLED / "saya.yaml").read_text(encoding="utf-8"))
    for name, value in changes.items():
        if value is None:
            del data[name]
        else:
            data[name] = value
    path = tmp_path / "card.yaml"
    path.write_text(yaml.safe_dump(data, allow_unicode=True), encoding="utf-8")
    return str(path)


@pytest.mark.parametrize("path", sorted(BUNDLED.glob("*.yaml")), ids=lambda path: path.stem)
def test_every_bundled_card_loads_with_adult_ages(path):
    card = load_card(path.stem)

    assert card.age >= 20
    assert card.player.age >= 20
    assert card.register_ in Register


@pytest.mark.parametrize(("age", "told"), [(None, "is missing"), (17, "is 17"), ("스물", "is '스물'"), (19.5, "is 19.5")])
def test_missing_or_minor_age_is_refused_with_the_remedy(tmp_path, age, told):
    path = write(tmp_path, age=age)

    with pytest.raises(ConfigError, match=rf"card\.yaml: age {told}; state an adult age"):
        load_card(path)


def test_age_of_the_player_is_checked_too(tmp_path):
    path = write(tmp_path, player={"name": "카즈키", "name_ja": "カズキ", "age": 15})

    with pytest.raises(ConfigError, match=r"player\.age is 15"):
        load_card(path)


def test_misspelt_field_bad_yaml_and_unknown_name_are_told(tmp_path):
    with pytest.raises(ConfigError, match="hobby is not a card field"):
        load_card(write(tmp_path, hobby="낚시"))
    broken = tmp_path / "broken.yaml"
    broken.write_text("name: [사야\nage: 3", encoding="utf-8")
    with pytest.raises(ConfigError, match=r"broken\.yaml:\d+: not valid YAML"):
        load_card(str(broken))
    with pytest.raises(ConfigError, match=r"Use one of: .*saya"):
        load_card("nobody")
