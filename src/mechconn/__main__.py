"""`python -m mechconn` is the command `mechconn`."""

from mechconn.cli import main

if __name__ == "__main__":
    main()
