"""`smartapp demo --check` is the main job, end to end, in one command."""

from __future__ import annotations

import re
import subprocess
import sys

from smartapp.commands.demo import Demo, run

PROGRAM = "import sys; from smartapp.cli import main; sys.exit(main())"


def test_the_check_drives_the_whole_way_and_names_the_charge():
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, "demo", "--check", "--readings", "200"],
        capture_output=True,
        text=True,
        timeout=90,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.fullmatch(r"ChargeItem/\S+", done.stdout.strip().splitlines()[-1])


def test_the_demos_folder_is_private_and_gone_afterwards():
    with Demo(readings=50) as demo:
        folder = demo.folder
        assert folder.stat().st_mode & 0o777 == 0o700
    assert not folder.exists()


def test_an_unknown_option_is_one_line_and_status_two(capsys):
    assert run(["--nonsense"]) == 2
    assert "--nonsense" in capsys.readouterr().err
