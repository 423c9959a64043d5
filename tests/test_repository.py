"""What stands around the code: docker-compose.yml, the two READMEs, style."""

import re
import subprocess
import sys
from urllib.parse import urlsplit

import pytest
import yaml

from toolbox import catalog, cli, services

ROOT = catalog.ROOT
COMPOSE = yaml.safe_load((ROOT / "docker-compose.yml").read_text(encoding="utf-8"))
READMES = {
    name: (ROOT / name).read_text(encoding="utf-8") for name in ("README.md", "README.en.md")
}
each_readme = pytest.mark.parametrize("text", READMES.values(), ids=READMES)


def tool(*command: str) -> str:
    """Run a tool of this environment; return what it complains of."""
    done = subprocess.run(
        [sys.executable, "-m", *command], cwd=ROOT, capture_output=True, encoding="utf-8"
    )
    return "" if done.returncode == 0 else done.stdout + done.stderr


def test_compose_file_keeps_to_the_compose_schema():
    check = ["check_jsonschema", "--builtin-schema", "vendor.compose-spec"]
    assert tool(*check, "docker-compose.yml") == ""


def test_compose_file_agrees_with_the_defaults_of_lessons_and_toolbox(monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "04_case_studies")
    import settings

    assert settings.DEFAULTS == {
        services.variable(name): url for name, url in services.DEFAULT_URL.items()
    }
    for name, url in services.DEFAULT_URL.items():
        port = urlsplit(url).port
        published = COMPOSE["services"][name.lower()]["ports"]
        assert published == [f"127.0.0.1:${{{name.upper()}_PORT:-{port}}}:{port}"]
    password = COMPOSE["services"]["mysql"]["environment"]["MYSQL_ROOT_PASSWORD"]
    assert urlsplit(services.DEFAULT_URL["MySQL"]).password == password


@pytest.mark.parametrize("name", ["redis", "mysql"])
def test_every_container_has_a_health_check_and_a_named_volume(name):
    service = COMPOSE["services"][name]
    assert service["healthcheck"]["test"][0] == "CMD"
    volume = service["volumes"][0].partition(":")[0]
    assert volume in COMPOSE["volumes"]


def test_code_keeps_to_the_style():
    ours = ["tutorial.py", "toolbox", "tests", *map(str, ROOT.glob("0[1-9]_*"))]
    assert tool("ruff", "check", "--no-cache", *ours) == ""
    assert tool("ruff", "format", "--check", "--no-cache", *ours) == ""


@each_readme
def test_readme_lists_every_lesson_with_its_file_and_section(text):
    rows = re.findall(r"^\| \[([\d.]+)\]\(([^)]+)\) \|[^|]+\| ([^|]+?) \|", text, re.MULTILINE)
    outside = {"视频之外", "beyond the video"}
    expected = [(lesson.number, lesson.file) for lesson in catalog.lessons()]
    assert [(number, file) for number, file, _ in rows] == expected
    for lesson, (_, _, section) in zip(catalog.lessons(), rows, strict=True):
        sections = re.findall(r"§[\d.]+", lesson.video)
        assert re.findall(r"§[\d.]+", section) == sections
        assert sections or section in outside


def test_the_chinese_readme_gives_every_lesson_its_own_title():
    rows = re.findall(
        r"^\| \[([\d.]+)\]\([^)]+\) \| ([^|]+?) \|", READMES["README.md"], re.MULTILINE
    )
    assert dict(rows) == {lesson.number: lesson.title for lesson in catalog.lessons()}


@pytest.mark.parametrize("lesson", catalog.lessons(), ids=lambda lesson: lesson.number)
def test_every_lesson_has_tests_of_its_own(lesson):
    stem = lesson.path.stem.removesuffix("_demo")
    assert (ROOT / "tests" / lesson.path.parent.name / f"test_{stem}.py").exists()


@each_readme
def test_every_command_in_the_readme_exists(text):
    commands = re.findall(r"\bpython3? (tutorial\.py|0[1-4]_\w+/\w+\.py)(?: ([a-z]+))?", text)
    assert commands
    for script, command in commands:
        assert (ROOT / script).exists(), script
        if script == "tutorial.py":
            assert command in ("", *cli.COMMANDS), command
    lessons = {lesson.number for lesson in catalog.lessons()}
    assert set(re.findall(r"tutorial\.py run (\d\.\d+)", text)) <= lessons


@each_readme
def test_every_relative_link_in_the_readme_leads_somewhere(text):
    for target in re.findall(r"\]\((?!https?://|#)([^)#]+)", text):
        assert (ROOT / target).exists(), target


def test_both_readmes_say_the_same_in_the_same_order():
    def shape(text):
        outline = [len(mark) for mark in re.findall(r"^(#+) ", text, re.MULTILINE)]
        code = re.findall(r"^```.*?^```", text, re.MULTILINE | re.DOTALL)
        links = re.findall(r"\]\(([^)#]*)\)", text)
        links = [link for link in links if link not in READMES]
        return outline, len(code), text.count("\n|"), links

    chinese, english = map(shape, READMES.values())
    assert chinese == english


@pytest.mark.parametrize("lesson", catalog.lessons()[:1])
def test_tests_of_a_lesson_stay_in_one_process(lesson, request, worker_id):
    """pytest 9.2 no longer reads what pytest-xdist 3.8 writes, and says nothing."""
    assert worker_id == "master" or request.node.nodeid.endswith(f"@{lesson.path.stem}")
