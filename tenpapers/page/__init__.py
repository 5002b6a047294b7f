"""What a page shows: explorers, the look of figures, numbers as text, quizzes."""
