"""`python -m avser.cli` is `avser`."""

from avser.cli.main import main

if __name__ == "__main__":
    main()
