"""An adapter for vg-engine, in a package of its own."""
