"""A quiz on a page: questions from a JSON file as native radio buttons; ``assets/quiz.js`` gives the feedback.

Without scripts the answer stands in a native disclosure below each question. The format is in
``tenpapers/quizzes/README.md``.
"""

import json
from html import escape
from pathlib import Path

import jsonschema
from jsonschema.exceptions import best_match

SCHEMA = {
    "type": "array",
    "minItems": 1,
    "items": {
        "type": "object",
        "required": ["question", "choices"],
        "additionalProperties": False,
        "properties": {
            "question": {"type": "string", "minLength": 1},
            "choices": {
                "type": "array",
                "minItems": 2,
                "items": {
                    "type": "object",
                    "required": ["text", "correct", "why"],
                    "additionalProperties": False,
                    "properties": {
                        "text": {"type": "string", "minLength": 1},
                        "correct": {"type": "boolean"},
                        "why": {"type": "string", "minLength": 1},
                    },
                },
            },
        },
    },
}


class Quiz:
    """Questions that show themselves as the last line of a cell; made by ``quiz``."""

    def __init__(self, name: str, questions: list[dict]):
        self.name, self.questions = name, questions

    def _repr_html_(self) -> str:
        questions = "".join(self._question(i, question) for i, question in enumerate(self.questions, 1))
        return f'<form class="quiz" id="quiz-{escape(self.name)}" autocomplete="off">{questions}</form>'

    def _question(self, i: int, question: dict) -> str:
        right = next(choice for choice in question["choices"] if choice["correct"])
        choices = "".join(
            f'<label><input type="radio" name="{escape(self.name)}-{i}" data-why="{escape(choice["why"])}" '
            f'data-correct="{str(choice["correct"]).lower()}"><span>{escape(choice["text"])}</span></label>'
            for choice in question["choices"]
        )
        return (
            f"<fieldset><legend>{i}. {escape(question['question'])}</legend>{choices}"
            '<button type="button" hidden>Check</button><p class="quiz-feedback" role="status" hidden></p>'
            f"<details><summary>Answer</summary>{escape(right['text'])} — {escape(right['why'])}</details></fieldset>"
        )

    def __repr__(self) -> str:
        return f"Quiz {self.name}: {len(self.questions)} questions"


def quiz(name: str | Path) -> Quiz:
    """Show the questions of a chapter, or of a JSON file of one's own.

    Args:
        name: a chapter, as ``"nqm"``, or the path of a file that ends in ``.json``.

    Returns:
        An object that shows itself.

    Raises:
        FileNotFoundError: no such file.
        ValueError: the file is no JSON, or it breaks the format; the message says where.
    """
    file = Path(name)
    if file.suffix != ".json":
        file = Path(__file__).parents[1] / "quizzes" / f"{name}.json"
    if not file.is_file():
        raise FileNotFoundError(f"no quiz {name}: {file} does not exist")
    try:
        questions = json.loads(file.read_text(encoding="utf-8"))
    except json.JSONDecodeError as error:
        raise ValueError(f"{name} is not JSON: {error}") from error
    error = best_match(jsonschema.Draft202012Validator(SCHEMA).iter_errors(questions))
    if error:
        raise ValueError(f"{name}, at {error.json_path}: {error.message}")
    for i, question in enumerate(questions, 1):
        correct = sum(choice["correct"] for choice in question["choices"])
        if correct != 1:
            raise ValueError(f"{name}, question {i}: exactly one choice must be correct, got {correct}")
    return Quiz(file.stem, questions)
