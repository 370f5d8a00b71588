"""Finding the localization heads of a model."""
