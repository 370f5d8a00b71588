"""The studies: find heads, score answers, compare scores, vary the method."""
