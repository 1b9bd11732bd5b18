"""Run the command line as ``python -m mlmgen``."""

from mlmgen.cli import main

if __name__ == "__main__":
    main()
