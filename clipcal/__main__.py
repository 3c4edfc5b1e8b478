"""``python -m clipcal``, the same as the ``clipcal`` command."""

from clipcal.cli.main import main

if __name__ == "__main__":
    main()
