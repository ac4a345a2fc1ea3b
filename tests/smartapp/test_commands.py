"""Every command of `smartapp` can be called."""

from __future__ import annotations

import pytest

from smartapp.cli import COMMANDS, main


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_tells_how_it_is_called(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    try:
        code: object = main([name, "--help"])
    except SystemExit as ended:
        code = ended.code
    told = capsys.readouterr()
    assert code == 0
    assert f"usage: smartapp {name}" in told.out + told.err


def test_the_list_of_commands_has_each_with_what_it_is_for(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0
    told = capsys.readouterr().out
    assert all(f"  {name:14} {purpose}" in told for name, (_, purpose) in COMMANDS.items())
