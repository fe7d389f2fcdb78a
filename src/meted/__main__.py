"""`python -m meted` is the command `meted`."""

from meted.cli.main import main

if __name__ == "__main__":
    main()
