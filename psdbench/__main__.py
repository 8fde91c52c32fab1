"""`python -m psdbench`: the command line, for launchers that start a module and not a script."""

from psdbench.cli.main import app

if __name__ == "__main__":
    app()
