"""Imports run one way, and each part stays what it is."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
OURS = {"fhir_mappings", "launch", "smartapp"}
# What each part may never import. The sandbox is an island inside launch.
FORBIDDEN = {
    "fhir_mappings": {"launch", "smartapp", "flask", "requests", "authlib", "sqlalchemy", "os"},
    "launch": {"fhir_mappings", "smartapp", "flask"},
    "launch/sandbox": {"fhir_mappings", "smartapp"},
}


def modules(part: str) -> list[Path]:
    folder = ROOT / part
    inner = [ROOT / other for other in FORBIDDEN if other.startswith(f"{part}/")]
    return sorted(
        path for path in folder.rglob("*.py") if not any(path.is_relative_to(island) for island in inner)
    )


def imported(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            yield from (name.name for name in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.module


@pytest.mark.parametrize("part", FORBIDDEN)
def test_imports_run_one_way(part: str) -> None:
    found = {
        f"{path.relative_to(ROOT)} imports {name}"
        for path in modules(part)
        for name in imported(path)
        if name.split(".")[0] in FORBIDDEN[part]
    }
    assert modules(part)
    assert found == set()


LAYERS = (
    (
        "smartapp.cli",
        "smartapp.commands",
        "smartapp.testing",
        "smartapp.application",
        "smartapp.serving",
        "smartapp.web",
    ),
    ("smartapp.services", "smartapp.health"),
    ("smartapp.worklist", "smartapp.cds_hooks", "smartapp.remittance"),
    ("smartapp.population",),
    ("smartapp.ehr.charges", "smartapp.ehr.handover", "smartapp.ehr.encounters"),
    ("smartapp.ehr.reading", "smartapp.ehr.people"),
    ("smartapp.ehr.wire", "smartapp.store", "smartapp.clock"),
    (
        "smartapp.configuration",
        "smartapp.logs",
        "smartapp.metrics",
        "smartapp.plain",
        "smartapp.prepared",
        "smartapp.release",
        "smartapp.windows",
    ),
)
"""Inside the app, from what people touch down to what it is told: each knows what is below or beside it."""


def depth_of(module: str) -> int | None:
    """The layer of a module; the topmost is 0."""
    among = (
        depth for depth, layer in enumerate(LAYERS) if any(f"{module}.".startswith(f"{p}.") for p in layer)
    )
    return next(among, None)


def test_inside_the_app_imports_run_downwards() -> None:
    found = set()
    for path in modules("smartapp"):
        module = ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
        if module in {"smartapp", "smartapp.ehr"}:
            continue
        own = depth_of(module)
        assert own is not None, f"{module} has no layer"
        for name in imported(path):
            other = depth_of(name)
            if other is not None and other < own:
                found.add(f"{module} imports {name}")
    assert found == set()


def test_the_sandbox_is_an_island() -> None:
    found = {
        f"{path.relative_to(ROOT)} imports {name}"
        for path in modules("launch/sandbox")
        for name in imported(path)
        if name.split(".")[0] in OURS and not name.startswith("launch.sandbox")
    }
    assert found == set()


def test_only_the_demo_and_seed_know_the_sandbox() -> None:
    found = {
        path.name
        for part in ("smartapp", "launch", "fhir_mappings")
        for path in modules(part)
        for name in imported(path)
        if name.startswith("launch.sandbox")
    }
    assert found <= {"demo.py", "demo_check.py", "seed.py"}


def test_nothing_but_a_testers_commands_knows_the_testing_server() -> None:
    found = {
        str(path.relative_to(ROOT))
        for part in ("smartapp", "launch", "fhir_mappings")
        for path in modules(part)
        for name in imported(path)
        if name.startswith("smartapp.testing") and not path.is_relative_to(ROOT / "smartapp" / "testing")
    }
    assert found <= {"smartapp/commands/connect.py", "smartapp/commands/seed.py"}


def test_evaluate_needs_neither_the_web_nor_the_slow_models() -> None:
    """It starts in a fraction of a second only as long as this holds."""
    heavy = "flask", "requests", "authlib", "sqlalchemy", "fhir.resources", "pydantic"
    script = (
        "import sys, smartapp.commands.evaluate\n"
        "print([name for name in sys.argv[1:] if name in sys.modules])"
    )
    out = subprocess.run(
        [sys.executable, "-c", script, *heavy], capture_output=True, text=True, check=True, cwd=ROOT
    )
    assert out.stdout.strip() == "[]"


def test_deciding_reads_no_clock() -> None:
    """The same record, policy and date give the same answer: nothing in the heart asks what time it is."""
    asked = {
        f"{path.relative_to(ROOT)}: {node.attr}"
        for path in modules("fhir_mappings")
        for node in ast.walk(ast.parse(path.read_text("utf-8")))
        if isinstance(node, ast.Attribute) and node.attr in {"now", "today", "utcnow", "environ", "getenv"}
    }
    assert asked == set()


ASKS_THE_MACHINE = {
    "smartapp/clock.py": "the app's clock: the machine's, in a demo or test ahead of it",
    "smartapp/configuration/issuers_file.py": "a command's default",
    "smartapp/commands/audit.py": "a command runs when it runs",
    "smartapp/commands/config_check.py": "a command runs when it runs",
    "smartapp/commands/internal_audit.py": "a command runs when it runs",
    "smartapp/commands/denials.py": "a command runs when it runs",
    "smartapp/commands/connect.py": "--as-of says how far from today",
    "smartapp/commands/demo.py": "without --as-of it is today",
    "smartapp/commands/doctor/command.py": "a command runs when it runs",
    "smartapp/commands/evaluate.py": "without --as-of it is today",
    "smartapp/commands/keys.py": "a command runs when it runs",
    "smartapp/commands/packet.py": "a command runs when it runs",
    "smartapp/commands/purge.py": "a command runs when it runs",
    "smartapp/commands/reseal.py": "a command runs when it runs",
    "smartapp/commands/sweep.py": "without --as-of it is today",
    "smartapp/commands/seed.py": "without --as-of its charts are told today",
    "smartapp/commands/rules.py": "without --as-of it is today",
    "launch/sandbox/__main__.py": "started by hand its charts are told today, and its clock is the machine's",
    "launch/sandbox/config.py": "a sandbox's clock, unless it is given another",
    "tests/launch/sandbox/test_serving.py": "compares a clock with the machine's",
    "tests/launch/test_http_network.py": "certificates, which OpenSSL compares with the machine's clock",
    "tests/smartapp/test_audit_cli.py": "the database's guards ask the database what day it is",
    "tests/smartapp/test_config.py": "compares a clock with the machine's",
    "tests/smartapp/test_demo.py": "compares a clock with the machine's",
    "tests/smartapp/test_doctor.py": "a command that compares an EHR's clock with the machine's",
    "tests/smartapp/test_evaluate.py": "without --as-of it is today",
    "tests/interop/test_strangers.py": "strangers have the machine's clock",
    "tests/support/sandbox.py": "the clock of a test's EHR, ahead of the machine's",
}


def test_nothing_else_asks_the_machine_what_time_it_is() -> None:
    """A test's world is a fixed day: whoever asks for today passes or fails by the calendar."""
    asked = {
        str(path.relative_to(ROOT))
        for part in (*FORBIDDEN, "smartapp", "tests", "bench")
        for path in modules(part)
        for node in ast.walk(ast.parse(path.read_text("utf-8")))
        if isinstance(node, ast.Attribute)
        and f"{ast.unparse(node.value)}.{node.attr}"
        in {"datetime.now", "datetime.utcnow", "date.today", "time.time"}
    }
    assert asked == set(ASKS_THE_MACHINE)


TEMPLATES = ROOT / "smartapp" / "templates"

SHARED = {"base.html", "error.html", "forms.html"}
"""What every room of the pages uses. Parts that are put into several pages begin with an underscore."""

FORMS_OF_THEIR_OWN = {
    "error.html",  # what was sent is sent again, field by field
    "launch/to_ehr.html",  # goes to the EHR, not to the app
    "testing/patients.html",  # nobody is signed in
}


def test_the_templates_of_a_page_lie_in_a_folder_with_its_modules_name() -> None:
    modules = {path.stem for path in (ROOT / "smartapp" / "web").glob("*.py")} | {"handover", "testing"}
    assert {path.parent.name for path in TEMPLATES.glob("*/*.html")} <= modules
    assert {path.name for path in TEMPLATES.glob("*.html") if not path.name.startswith("_")} == SHARED


def test_every_form_that_changes_something_is_made_by_the_one_macro() -> None:
    by_hand = {
        str(path.relative_to(TEMPLATES))
        for path in TEMPLATES.rglob("*.html")
        if re.search(r'<form\b[^>]*method="post"', path.read_text(encoding="utf-8"))
    }
    assert by_hand == {"forms.html", *FORMS_OF_THEIR_OWN}
