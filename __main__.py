"""The entry of `amr` and of `python -m amr`. It imports nothing before it can answer Ctrl-C."""

import sys


def main() -> None:
    """Run `amr` and exit with its status."""
    try:
        from amr.cli import run

        status = run()
    except KeyboardInterrupt:
        sys.stderr.write("amr: stopped. Run the same command to start over.\n")
        status = 130
    sys.exit(status)


if __name__ == "__main__":
    main()
