"""The engine, its scenes and its scheduler."""
