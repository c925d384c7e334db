import re
from pathlib import Path

import pytest

README = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")


def test_the_example_runs_as_it_stands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys):
    monkeypatch.chdir(tmp_path)
    (example,) = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    exec(compile(example, "README.md", "exec"), {})
    parameters = int(capsys.readouterr().out.split()[-1])
    assert parameters > 0 and (tmp_path / "runs" / "mine" / "prompts.safetensors").exists()


def test_every_public_name_exists_and_has_a_docstring():
    import dpl

    for name in dpl.__all__:
        assert getattr(dpl, name).__doc__, name
    assert set(re.findall(r"dpl\.([a-zA-Z_]+)", re.findall(r"```python\n(.*?)```", README, re.DOTALL)[0])) <= set(dpl.__all__)
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = dpl.nothing
