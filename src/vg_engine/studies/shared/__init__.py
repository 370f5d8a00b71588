"""What several studies use: journals, samples, predictions and their records."""
