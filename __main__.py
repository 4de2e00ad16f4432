"""`python -m amr` is `amr`."""

from amr.cli import main

if __name__ == "__main__":
    main()
