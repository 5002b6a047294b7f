"""Quizzes: their format and their HTML."""

import json
from pathlib import Path

import pytest

from tenpapers.page.quiz import quiz

GOOD = [
    {
        "question": "Is 1 < 2 & 2 < 3?",
        "choices": [
            {"text": "Yes", "correct": True, "why": 'It is "so".'},
            {"text": "No", "correct": False, "why": "Count again."},
        ],
    }
]
QUIZZES = Path(__file__).parents[3] / "tenpapers" / "quizzes"


def write(folder: Path, questions) -> Path:
    path = folder / "test.json"
    path.write_text(questions if isinstance(questions, str) else json.dumps(questions))
    return path


def changed(**choice) -> list:
    questions = json.loads(json.dumps(GOOD))
    questions[0]["choices"][1].update(choice)
    return questions


def test_a_quiz_is_made_of_labelled_native_buttons_and_an_answer_without_scripts(tmp_path):
    html = quiz(write(tmp_path, GOOD))._repr_html_()
    assert html.count('<label><input type="radio" name="test-1"') == 2
    assert html.count('data-correct="true"') == 1 and 'data-why="It is &quot;so&quot;."' in html
    assert "<legend>1. Is 1 &lt; 2 &amp; 2 &lt; 3?</legend>" in html
    assert "<details><summary>Answer</summary>Yes" in html


@pytest.mark.parametrize(
    ("questions", "message"),
    [
        ("{", "is not JSON"),
        ([], r"at \$"),
        (changed(correct="yes"), r"choices\[1\]\.correct.*boolean"),
        (changed(correct=True), "question 1: exactly one choice must be correct, got 2"),
        (changed(comment="x"), "comment"),
        ([{"question": "Why?"}], "'choices' is a required property"),
    ],
    ids=["no JSON", "no question", "wrong type", "two right", "unknown key", "no choices"],
)
def test_a_quiz_that_breaks_the_format_says_where(tmp_path, questions, message):
    with pytest.raises(ValueError, match=message):
        quiz(write(tmp_path, questions))


def test_a_chapters_quiz_is_found_from_any_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert repr(quiz("nqm")).startswith("Quiz nqm:")
    with pytest.raises(FileNotFoundError, match=r"no quiz none\.json"):
        quiz("none.json")
    with pytest.raises(FileNotFoundError, match=r"no quiz none: "):
        quiz("none")


@pytest.mark.parametrize("path", sorted(QUIZZES.glob("*.json")), ids=lambda path: path.stem)
def test_the_books_quizzes_keep_the_format(path):
    assert quiz(path).questions
