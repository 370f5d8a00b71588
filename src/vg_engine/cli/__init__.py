"""The command line. Importing it loads typer and rich, nothing else."""
