"""`rplab doctor` says what is wrong and what to do."""

from rplab import doctor
from rplab.cli.main import main


def test_machine_without_a_character_is_told_how_to_make_one(tmp_path):
    findings = {finding.subject: finding for finding in doctor.examine(tmp_path)}

    assert findings["character"].level == "note"
    assert "rplab run" in findings["character"].remedy
    assert findings["prefect"].level == "ok"
    assert findings["torch"].level in {"ok", "note"}


def test_both_onnxruntimes_together_are_a_problem(tmp_path, monkeypatch):
    monkeypatch.setattr(doctor, "_version", lambda _: "1.32.0")

    findings = [finding for finding in doctor.examine(tmp_path) if finding.subject == "onnxruntime"]

    assert [finding.level for finding in findings] == ["problem"]


def test_newer_fastapi_is_a_problem_with_the_remedy(tmp_path, monkeypatch):
    monkeypatch.setattr(doctor, "_version", lambda package: "0.155.0" if package == "fastapi" else "3.8.8")

    finding = next(finding for finding in doctor.examine(tmp_path) if finding.subject == "prefect")

    assert finding.level == "problem"
    assert "fastapi<0.151" in finding.remedy


def test_findings_come_as_json(tmp_path, capsys):
    code = main(["doctor", "--store", str(tmp_path), "--json"])

    assert code == 0
    assert '"subject": "python"' in capsys.readouterr().out
