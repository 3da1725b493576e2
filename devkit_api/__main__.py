"""`python -m devkit_api`."""

from devkit_api.importing import for_good

with for_good():
    from devkit_api.cli import main

if __name__ == "__main__":
    main()
