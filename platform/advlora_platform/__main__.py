"""`python -m advlora_platform`: the command line where the package is on the path but not installed, as in a job."""

from advlora_platform.cli import main

if __name__ == "__main__":
    main()
