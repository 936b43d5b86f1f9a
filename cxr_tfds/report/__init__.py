"""`report.html`, `MODEL_CARD.md` and the pictures of a run. Importing the package loads nothing."""
