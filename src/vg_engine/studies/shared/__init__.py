"""Parts that several studies use: journals, samples, predictions and their records."""
