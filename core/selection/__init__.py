"""Selection: statistics per head, and the rules that choose localization heads."""
