"""`python -m devkit_api`."""

from devkit_api.cli import main

if __name__ == "__main__":
    main()
