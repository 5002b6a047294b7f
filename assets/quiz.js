// Feedback for every <form class="quiz"> of a page: the reader chooses, presses Check, and reads why. Markup: tenpapers/page/quiz.py.
(() => {
  "use strict";

  function question(fieldset) {
    const [button, feedback, answer] = ["button", ".quiz-feedback", "details"].map((part) => fieldset.querySelector(part));
    button.hidden = feedback.hidden = false;
    answer.hidden = true; // it is for readers without scripts
    const forget = () => {
      feedback.textContent = "";
      delete fieldset.dataset.answer;
    };
    fieldset.addEventListener("change", forget);
    button.addEventListener("click", () => {
      const chosen = fieldset.querySelector("input:checked");
      if (!chosen) return void (feedback.textContent = "Choose an answer first.");
      const right = chosen.dataset.correct === "true";
      fieldset.dataset.answer = right ? "right" : "wrong";
      feedback.textContent = `${right ? "Right." : "Not this one."} ${chosen.dataset.why}`;
    });
  }

  function main() {
    for (const form of document.querySelectorAll("form.quiz")) {
      form.addEventListener("submit", (event) => event.preventDefault());
      form.querySelectorAll("fieldset").forEach(question);
      form.dataset.ready = "true";
    }
  }

  if (document.readyState === "loading") document.addEventListener("DOMContentLoaded", main);
  else main();
})();
