"""`python -m vg_engine` is `vg-engine`."""

from vg_engine.cli.main import main

if __name__ == "__main__":
    main()
