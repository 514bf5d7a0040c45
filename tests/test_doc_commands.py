"""What pages and CI files tell people to type is read by the parsers that will read it then."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest

from kernelproof.cli import commands, main

ROOT = Path(__file__).resolve().parent.parent
PAGES = [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").rglob("*.md"))]
EXAMPLE = ROOT / "docs/example"
CI_FILES = [EXAMPLE / ".github/workflows/kernels.yml", EXAMPLE / ".gitlab-ci.yml"]
BLOCK = re.compile(r"^( *)```(\w*)\n(.*?)^ *```$", re.MULTILINE | re.DOTALL)
INLINE = re.compile(r"`(kernelproof [a-z][^`]*)`")
ENDS = ("|", "||", "&&", ";", ">", ">>", "&", "(", ")", "<")
PYTEST = ("-m", "pytest")


def split(line: str) -> Iterator[list[str]]:
    """The simple commands of a shell's line, each as its words."""
    lexer = shlex.shlex(line, posix=True, punctuation_chars=True)
    lexer.commenters = "#"
    lexer.whitespace_split = True
    words: list[str] = []
    for word in lexer:
        if word in ENDS:
            yield words
            words = []
        else:
            words.append(word)
    yield words


def find_commands(text: str) -> Iterator[tuple[str, list[str]]]:
    """Each call of our command and of pytest in a text: which, and its arguments."""
    for line in text.splitlines():
        if not re.search(r"kernelproof|pytest", line):
            continue
        found = re.search(r"\$\((kernelproof [^)]*)\)", line)
        for words in split(found[1] if found else line):
            if words and words[0].rpartition("/")[2] == "kernelproof" and len(words) > 1:
                yield "kernelproof", words[1:]
            elif words and words[0].rpartition("/")[2] in ("python", "python3") and tuple(words[1:3]) == PYTEST:
                yield "pytest", words[3:]


def shell_lines(page: Path) -> Iterator[tuple[str, list[str]]]:
    for indent, kind, text in BLOCK.findall(page.read_text("utf-8")):
        if kind == "":
            yield from find_commands(re.sub(rf"(?m)^{indent}", "", text))


def ci_lines(path: Path) -> Iterator[tuple[str, list[str]]]:
    text = re.sub(r"\$\{\{[^}]*\}\}", "6.12", path.read_text("utf-8"))
    lines = [re.sub(r"^.*then (?=kernelproof)|^\s*(- )?(run: )?", "", line) for line in text.splitlines()]
    yield from find_commands("\n".join(lines))


def read(program: str, words: list[str], config: pytest.Config) -> None:
    """Let a command line be read as it would be; SystemExit or an assertion where it would be refused."""
    if program == "pytest":
        parser = config._parser  # with the options of all plugins
        _, unknown = parser.parse_known_and_unknown_args(words)
        assert unknown == []
    elif words[0] not in ("--help", "--version"):
        assert words[0] in commands.COMMANDS
        if "--help" not in words:
            commands.build_command(words[0]).parse_args(words[1:])


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_commands_of_pages(page: Path, pytestconfig: pytest.Config, capsys: pytest.CaptureFixture[str]) -> None:
    """Each command line in a page's blocks has a sub-command and options that there are."""
    for program, words in shell_lines(page):
        try:
            read(program, words, pytestconfig)
        except SystemExit:
            pytest.fail(f"{program} {shlex.join(words)}: {capsys.readouterr().err}")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_commands_in_sentences(page: Path) -> None:
    """Each `kernelproof …` inside a sentence names a sub-command and options that there are."""
    for text in INLINE.findall(re.sub(BLOCK, "", page.read_text("utf-8"))):
        name, *words = text.split()[1:]
        assert name in commands.COMMANDS, text
        options = commands.build_command(name)._option_string_actions
        assert [word for word in words if word.startswith("--") and word != "--" and word not in options] == [], text


def test_there_are_commands() -> None:
    """The two tests above are not idle: they read what is there."""
    read_here = [words for page in PAGES for program, words in shell_lines(page) if program == "kernelproof"]
    assert {words[0] for words in read_here} >= {"setup", "shell", "run", "conformance", "merge", "doctor", "clean"}
    assert sum(program == "pytest" for page in PAGES for program, _ in shell_lines(page)) > 10


def test_wrong_commands_are_found(pytestconfig: pytest.Config) -> None:
    """An option that there is not is refused."""
    found = list(find_commands("make | kernelproof run --no-such -- x > out\npython -m pytest --no-such"))
    assert found == [("kernelproof", ["run", "--no-such", "--", "x"]), ("pytest", ["--no-such"])]
    with pytest.raises(SystemExit):
        read(*found[0], pytestconfig)
    with pytest.raises(AssertionError):
        read(*found[1], pytestconfig)


@pytest.mark.parametrize("path", CI_FILES, ids=["github", "gitlab"])
def test_commands_of_ci_files(path: Path, pytestconfig: pytest.Config, capsys: pytest.CaptureFixture[str]) -> None:
    """What the CI files run is there: tests, set-up, cleaning, merging and the report; each has a help text."""
    found = list(ci_lines(path))
    assert {words[0] for program, words in found if program == "kernelproof"} == {"setup", "clean", "merge", "report"}
    assert sum(program == "pytest" for program, _ in found) == 1
    for program, words in found:
        read(program, words, pytestconfig)
        if program == "kernelproof":
            with pytest.raises(SystemExit) as ended:
                main.main([words[0], "--help"])
            assert ended.value.code == 0
            assert capsys.readouterr().out


@pytest.mark.parametrize("path", CI_FILES, ids=["github", "gitlab"])
def test_ci_files_are_yaml(path: Path) -> None:
    """The CI files are YAML, and every step that runs something is one text."""
    yaml = pytest.importorskip("yaml", reason="not applicable: no PyYAML here; `nox -s docs` has it")
    document = yaml.safe_load(path.read_text("utf-8"))
    if "jobs" in document:
        steps = [step for job in document["jobs"].values() for step in job["steps"]]
        assert all(isinstance(step.get("run", ""), str) and ("run" in step) != ("uses" in step) for step in steps)
        kernels = document["jobs"]["kernel"]["strategy"]["matrix"]["kernel"]
    else:
        jobs = [job for job in document.values() if isinstance(job, dict) and "script" in job]
        scripts = [
            line for job in jobs for part in ("before_script", "script", "after_script") for line in job.get(part, [])
        ]
        assert all(isinstance(line, str) for line in scripts)
        (matrix,) = document["kernel"]["parallel"]["matrix"]
        kernels = matrix["KERNEL"]
    assert all(isinstance(kernel, str) for kernel in kernels)  # 6.10 as a number would be 6.1
    assert set(kernels) <= set(commands.list_kernels())


def test_page_shows_the_files() -> None:
    """The page about CI shows both files as they are."""
    page = (ROOT / "docs/ci.md").read_text("utf-8")
    shown = [text for _, kind, text in BLOCK.findall(page) if kind == "yaml"]
    assert shown == [path.read_text("utf-8") for path in CI_FILES]
